//! `meshdojo explain`: how the proxy of a pod would route a request, as the proxy itself says.

mod from;
mod text;

use std::path::Path;

use anyhow::Context;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use mesh_config::Explanation;

use crate::pod_admin::{PodAdmin, client};

/// `meshdojo explain`.
#[derive(clap::Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The method: GET
    method: String,
    /// What is asked for: http://reviews:9080/reviews/0
    url: String,
    /// Who asks: a pod, deploy/NAME, or the name of an application (productpage)
    #[arg(long)]
    from: String,
    /// Namespace of who asks [default: that of the kubeconfig's context]
    #[arg(short, long)]
    namespace: Option<String>,
    /// A header of the request: 'end-user: jason'; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Print text, json or yaml
    #[arg(short, long, default_value = "text", value_parser = ["text", "json", "yaml"])]
    output: String,
}

/// Runs the verb. `kubeconfig` leads to the cluster of this machine, used unless KUBECONFIG is set.
///
/// # Errors
/// The pod's proxy cannot be asked, or there is no sense in the question.
pub async fn run(args: ExplainArgs, kubeconfig: &Path) -> anyhow::Result<()> {
    let client = client(kubeconfig).await?;
    let pod = from::find(&client, &args).await?;
    let url = match args.url.contains("://") {
        true => args.url.clone(),
        false => format!("http://{}", args.url),
    };
    let address = address_of(&client, &url, pod.namespace.as_deref()).await;
    let page = question(&args, &url, address.as_deref());
    let mut admin = PodAdmin::connect(client, &pod).await?;
    let answer = admin.json(&page).await?;
    match args.output.as_str() {
        "json" => println!("{}", serde_json::to_string_pretty(&answer)?),
        "yaml" => print!("{}", serde_norway::to_string(&answer)?),
        _ => {
            let explanation: Explanation = serde_json::from_value(answer)
                .context("the proxy's answer is of another version of meshdojo")?;
            println!("{} {url} from {}\n", args.method, pod.pod);
            print!("{}", text::text(&explanation));
        }
    }
    Ok(())
}

/// The proxy's page.
fn question(args: &ExplainArgs, url: &str, address: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("method", &args.method);
    query.append_pair("url", url);
    for header in &args.headers {
        query.append_pair("header", header);
    }
    if let Some(address) = address {
        query.append_pair("address", address);
    }
    format!("/explain?{}", query.finish())
}

/// What the pod's resolver says of a Service: where the kernel redirects connections, a proxy is told
/// addresses alone. `None`: it is no Service, has no address, or we may not look.
async fn address_of(client: &Client, url: &str, namespace: Option<&str>) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let mut labels = uri.host()?.split('.');
    let name = labels.next()?;
    let namespace = labels.next().or(namespace).unwrap_or("default");
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = services.get_opt(name).await.ok()??;
    let address = service.spec?.cluster_ip?;
    (address != "None" && !address.is_empty()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_keeps_every_byte() {
        let args = ExplainArgs {
            method: "GET".into(),
            url: String::new(),
            from: String::new(),
            namespace: None,
            headers: vec!["cookie: a=b&c".into(), "x: ü".into()],
            output: String::new(),
        };
        let page = question(&args, "http://web:80/?q=a+b", Some("10.0.0.1"));
        let query = page.strip_prefix("/explain?").unwrap();
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let expected = [
            ("method", "GET"),
            ("url", "http://web:80/?q=a+b"),
            ("header", "cookie: a=b&c"),
            ("header", "x: ü"),
            ("address", "10.0.0.1"),
        ];
        assert_eq!(
            pairs,
            expected.map(|(name, value)| (name.into(), value.into()))
        );
    }
}
