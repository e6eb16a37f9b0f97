//! JSON Web Keys and the signatures that they verify.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{hmac, signature as ring_signature};
use serde_json::Value;

use super::JwtError;

/// Algorithms of RFC 7518 and RFC 8037 that are supported; `none` never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            _ => return None,
        })
    }
}

/// A key set. Keys that cannot be read are left out.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// When the key says it.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

impl Keys {
    pub(super) fn parse(jwks: &str) -> Self {
        let set: Value = serde_json::from_str(jwks).unwrap_or_default();
        let keys = set["keys"].as_array().into_iter().flatten();
        Self(keys.filter_map(Key::parse).collect())
    }

    /// Some key of this id (or of none) has signed.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), JwtError> {
        let mut candidates = self.0.iter().filter(|key| {
            let same_id = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
            same_id
                && key.algorithm.is_none_or(|own| own == algorithm)
                && key.material.is_for(algorithm)
        });
        let Some(first) = candidates.next() else {
            return Err(JwtError::NoKey);
        };
        let verifies = |key: &Key| key.material.verifies(algorithm, signed, signature);
        if verifies(first) || candidates.any(verifies) {
            Ok(())
        } else {
            Err(JwtError::Signature)
        }
    }
}

impl Key {
    fn parse(key: &Value) -> Option<Self> {
        let bytes = |field: &str| {
            let text = key[field].as_str()?.trim_end_matches('=');
            URL_SAFE_NO_PAD.decode(text).ok()
        };
        let material = match (key["kty"].as_str()?, key["crv"].as_str()) {
            ("RSA", _) => Material::Rsa {
                n: bytes("n")?,
                e: bytes("e")?,
            },
            ("EC", Some("P-256")) => Material::P256([vec![4], bytes("x")?, bytes("y")?].concat()),
            ("EC", Some("P-384")) => Material::P384([vec![4], bytes("x")?, bytes("y")?].concat()),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
            ("oct", _) => Material::Secret(bytes("k")?),
            _ => return None,
        };
        Some(Self {
            id: key["kid"].as_str().map(str::to_owned),
            algorithm: key["alg"].as_str().and_then(Algorithm::parse),
            material,
        })
    }
}

impl Material {
    /// The algorithm is one for keys of this kind: a public key is never taken for a secret.
    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        match self {
            Self::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Self::P256(_) => algorithm == Es256,
            Self::P384(_) => algorithm == Es384,
            Self::Ed25519(_) => algorithm == EdDsa,
            Self::Secret(_) => matches!(algorithm, Hs256 | Hs384 | Hs512),
        }
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        use Algorithm::*;
        let public = |kind: &'static dyn ring_signature::VerificationAlgorithm, key: &[u8]| {
            let key = ring_signature::UnparsedPublicKey::new(kind, key);
            key.verify(signed, signature).is_ok()
        };
        match self {
            Self::Rsa { n, e } => {
                let parameters = match algorithm {
                    Rs256 => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
                    Rs384 => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
                    Rs512 => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
                    Ps256 => &ring_signature::RSA_PSS_2048_8192_SHA256,
                    Ps384 => &ring_signature::RSA_PSS_2048_8192_SHA384,
                    Ps512 => &ring_signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                let key = ring_signature::RsaPublicKeyComponents { n, e };
                key.verify(parameters, signed, signature).is_ok()
            }
            Self::P256(key) => public(&ring_signature::ECDSA_P256_SHA256_FIXED, key),
            Self::P384(key) => public(&ring_signature::ECDSA_P384_SHA384_FIXED, key),
            Self::Ed25519(key) => public(&ring_signature::ED25519, key),
            Self::Secret(key) => {
                let kind = match algorithm {
                    Hs256 => hmac::HMAC_SHA256,
                    Hs384 => hmac::HMAC_SHA384,
                    Hs512 => hmac::HMAC_SHA512,
                    _ => return false,
                };
                let key = hmac::Key::new(kind, key);
                hmac::verify(&key, signed, signature).is_ok()
            }
        }
    }
}
