//! Texts with Envoy's command operators, such as `%REQ(X-REQUEST-ID):8%`: values of headers and lines
//! of the access log.

/// A part of such a text. `O` is an operator.
#[derive(Debug)]
pub(crate) enum Part<O> {
    Text(Box<str>),
    /// With the length at which its value is cut.
    Operator(O, Option<usize>),
}

/// Takes a text apart; `operator` knows operators by their name and argument.
///
/// # Errors
/// The rest of the text, from the operator on that is not known or not ended.
pub(crate) fn parse<O>(
    text: &str,
    mut operator: impl FnMut(&str, &str) -> Option<O>,
) -> Result<Vec<Part<O>>, &str> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        literal.push_str(&rest[..start]);
        let from = &rest[start..];
        rest = &from[1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (inner, after) = rest.split_once('%').ok_or(from)?;
        let (name, argument, limit) = split(inner).ok_or(from)?;
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal).into()));
        }
        parts.push(Part::Operator(operator(name, argument).ok_or(from)?, limit));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(parts)
}

/// `NAME`, `NAME(argument)`, `NAME(argument):length`.
fn split(text: &str) -> Option<(&str, &str, Option<usize>)> {
    let Some((name, rest)) = text.split_once('(') else {
        return Some((text, "", None));
    };
    let (argument, after) = rest.rsplit_once(')')?;
    let limit = after.strip_prefix(':').map(str::parse).transpose().ok()?;
    Some((name, argument, limit))
}
