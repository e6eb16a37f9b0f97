//! `meshdojo certs`: certificates for the labs, from an authority that is made beside them.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

/// What is made.
#[derive(Clone, Debug, clap::Args)]
pub struct CertsArgs {
    /// Names that the certificate is for: hosts (also *.example.com), addresses, spiffe:// URIs
    #[arg(required = true)]
    names: Vec<String>,

    /// Folder of the files; the authority in it (ca.crt, ca.key) is used again
    #[arg(long, default_value = ".")]
    out: PathBuf,

    /// Print a Kubernetes Secret of this name with the certificate, for kubectl apply -f -
    #[arg(long)]
    secret: Option<String>,

    /// Namespace of the Secret: that of the gateway
    #[arg(long, default_value = crate::ROOT_NAMESPACE)]
    namespace: String,

    /// Put the authority into the Secret too: clients must then show a certificate of it (MUTUAL)
    #[arg(long)]
    with_ca: bool,

    /// Days that the certificate is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=3650))]
    days: i64,
}

/// Makes the files, and prints the Secret when asked for.
///
/// # Errors
/// A name is no name, a file cannot be written, or the authority in the folder cannot be used.
pub fn run(args: &CertsArgs) -> anyhow::Result<()> {
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let (authority, issuer) = authority(&args.out)?;
    let key = KeyPair::generate()?;
    let certificate = leaf(args)?.signed_by(&key, &issuer)?.pem();
    let stem = args.names[0]
        .trim_start_matches("*.")
        .replace(['/', ':'], "_");
    write(&args.out.join(format!("{stem}.crt")), &certificate, 0o644)?;
    write(
        &args.out.join(format!("{stem}.key")),
        &key.serialize_pem(),
        0o600,
    )?;
    if let Some(name) = &args.secret {
        print!(
            "{}",
            secret(args, name, &certificate, &key.serialize_pem(), &authority)
        );
    }
    Ok(())
}

/// The authority of the folder, made when there is none: its certificate in PEM, and what signs.
fn authority(folder: &Path) -> anyhow::Result<(String, Issuer<'static, KeyPair>)> {
    let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    if !certificate.exists() && !key.exists() {
        let own = KeyPair::generate()?;
        let mut params = valid_for(3650);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Mesh Dojo");
        params
            .distinguished_name
            .push(DnType::CommonName, "Mesh Dojo lab authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        write(&certificate, &params.self_signed(&own)?.pem(), 0o644)?;
        write(&key, &own.serialize_pem(), 0o600)?;
    }
    ensure!(
        certificate.exists() && key.exists(),
        "{} holds only one of ca.crt and ca.key; remove it to have both made",
        folder.display()
    );
    let pem = read(&certificate)?;
    let own = KeyPair::from_pem(&read(&key)?).with_context(|| key.display().to_string())?;
    let issuer = Issuer::from_ca_cert_pem(&pem, own);
    let issuer = issuer.with_context(|| format!("{} is no certificate", certificate.display()))?;
    Ok((pem, issuer))
}

fn leaf(args: &CertsArgs) -> anyhow::Result<CertificateParams> {
    let mut params = valid_for(args.days);
    params
        .distinguished_name
        .push(DnType::CommonName, args.names[0].as_str());
    for name in &args.names {
        let bad = || format!("{name:?} is neither a host name, an address nor a URI");
        params.subject_alt_names.push(if name.contains("://") {
            SanType::URI(name.as_str().try_into().with_context(bad)?)
        } else if let Ok(address) = name.parse() {
            SanType::IpAddress(address)
        } else {
            let letters = |c: char| c.is_ascii_alphanumeric() || "-._*".contains(c);
            ensure!(!name.is_empty() && name.chars().all(letters), bad());
            SanType::DnsName(name.as_str().try_into().with_context(bad)?)
        });
    }
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn valid_for(days: i64) -> CertificateParams {
    let now = OffsetDateTime::from(SystemTime::now());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Clocks differ.
    params.not_before = now - time::Duration::minutes(2);
    params.not_after = now + time::Duration::days(days);
    params
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes())?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn secret(args: &CertsArgs, name: &str, certificate: &str, key: &str, authority: &str) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {}\ntype: kubernetes.io/tls\ndata:\n",
        args.namespace
    );
    let mut data = vec![("tls.crt", certificate), ("tls.key", key)];
    if args.with_ca {
        data.push(("ca.crt", authority));
    }
    for (field, text) in data {
        yaml.push_str(&format!("  {field}: {}\n", STANDARD.encode(text)));
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(out: &Path, names: &[&str]) -> CertsArgs {
        CertsArgs {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            out: out.to_owned(),
            secret: None,
            namespace: "istio-system".into(),
            with_ca: true,
            days: 30,
        }
    }

    #[test]
    fn one_authority_signs_for_many_names() {
        let folder = std::env::temp_dir().join(format!("certs-{}", std::process::id()));
        run(&args(&folder, &["a.example", "127.0.0.1", "*.b.example"])).unwrap();
        let authority = fs::read(folder.join("ca.crt")).unwrap();
        run(&args(&folder, &["c.example"])).unwrap();
        assert_eq!(fs::read(folder.join("ca.crt")).unwrap(), authority);
        let leaf = fs::read(folder.join("a.example.crt")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&leaf).unwrap();
        let leaf = pem.parse_x509().unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 3);
        let error = run(&args(&folder, &["no name"])).unwrap_err().to_string();
        assert!(error.starts_with("\"no name\" is neither"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
