//! The cluster's certificates and keys, made once and kept in the state folder.

use super::tokens::TokenKey;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use std::fs::{OpenOptions, create_dir_all, read_to_string};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Certificates (PEM) and keys of one cluster. The CA's key is not kept: it signs the server's and
/// the administrator's certificate and is forgotten.
pub struct Authority {
    /// The CA's certificate: what clients trust.
    pub ca: String,
    /// The server's certificate.
    pub server: String,
    /// The server's key.
    pub server_key: String,
    /// The administrator's client certificate.
    pub admin: String,
    /// The administrator's key.
    pub admin_key: String,
    /// Signs ServiceAccount tokens.
    pub tokens: TokenKey,
}

/// Files of an [`Authority`], all readable by the owner alone.
const FILES: [&str; 6] = [
    "ca.crt",
    "server.crt",
    "server.key",
    "admin.crt",
    "admin.key",
    "service-account.key",
];

impl Authority {
    /// New keys; the server's certificate is good for the names of the API server and for
    /// `addresses`.
    pub fn generate(addresses: &[IpAddr]) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.remove(DnType::CommonName);
        params
            .distinguished_name
            .push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let mut names: Vec<String> = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned)
        .to_vec();
        names.extend(addresses.iter().map(IpAddr::to_string));
        let issue = |names: Vec<String>, common: &str, organization: Option<&str>, usage| {
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.remove(DnType::CommonName);
            if let Some(organization) = organization {
                params
                    .distinguished_name
                    .push(DnType::OrganizationName, organization);
            }
            params.distinguished_name.push(DnType::CommonName, common);
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &ca)?;
            Ok::<_, rcgen::Error>((certificate.pem(), key.serialize_pem()))
        };
        let (server, server_key) = issue(
            names,
            "kube-apiserver",
            None,
            ExtendedKeyUsagePurpose::ServerAuth,
        )?;
        let (admin, admin_key) = issue(
            Vec::new(),
            "kubernetes-admin",
            Some("system:masters"),
            ExtendedKeyUsagePurpose::ClientAuth,
        )?;
        Ok(Authority {
            ca: ca.pem(),
            server,
            server_key,
            admin,
            admin_key,
            tokens: TokenKey::generate(),
        })
    }

    /// The authority kept in `folder`; a new one is made there when the folder holds none.
    ///
    /// # Errors
    /// When files are missing or cannot be read or written.
    pub fn load_or_generate(folder: &Path, addresses: &[IpAddr]) -> io::Result<Self> {
        if folder.join(FILES[FILES.len() - 1]).exists() {
            return Self::load(folder);
        }
        let authority = Self::generate(addresses).map_err(io::Error::other)?;
        create_dir_all(folder)?;
        // the last file marks the set as complete
        let contents = [
            authority.ca.as_str(),
            &authority.server,
            &authority.server_key,
            &authority.admin,
            &authority.admin_key,
            authority.tokens.pem(),
        ];
        for (name, content) in FILES.into_iter().zip(contents) {
            write_private(&folder.join(name), content)?;
        }
        Ok(authority)
    }

    fn load(folder: &Path) -> io::Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            read_to_string(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        };
        Ok(Authority {
            ca: read(FILES[0])?,
            server: read(FILES[1])?,
            server_key: read(FILES[2])?,
            admin: read(FILES[3])?,
            admin_key: read(FILES[4])?,
            tokens: TokenKey::from_pem(&read(FILES[5])?).map_err(io::Error::other)?,
        })
    }
}

/// Writes a file that only the owner can read, replacing an older one at once.
pub(crate) fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

impl Authority {
    /// A kubeconfig for the administrator, certificates embedded, whose context is named `name`.
    pub fn kubeconfig(&self, name: &str, port: u16) -> String {
        let data = |pem: &str| BASE64_STANDARD.encode(pem);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority-data": data(&self.ca),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate-data": data(&self.admin),
                "client-key-data": data(&self.admin_key),
            }}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        });
        // plain maps and strings always serialize
        serde_norway::to_string(&config).unwrap_or_default()
    }
}
