//! ES256 for the token library, on the cryptography that TLS uses already.
//!
//! Invariant: no other algorithm is signed or accepted, whatever a token's header asks for (RFC 8725 §3.1).
//!
//! The library without one of its own backends asks a provider of the process and panics when there is none, so
//! [`install`] precedes every use. Both backends it offers are out: one brings an RSA crate with an open advisory, the
//! other a C build.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use signature::{Error, Signer, Verifier};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Only for JSON web key sets, which the Hub does not have.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes this the provider of the process; the second and later calls do nothing.
pub(super) fn install() {
    // Refused only when a provider is there already: ours, as this crate is the library's only user.
    let _ = PROVIDER.install_default();
}

struct Es256Signer(EcdsaKeyPair);

impl Signer<Vec<u8>> for Es256Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        self.0
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| Error::new())
    }
}

impl JwtSigner for Es256Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

struct Es256Verifier(UnparsedPublicKey<Vec<u8>>);

impl Verifier<Vec<u8>> for Es256Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.0.verify(message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Es256Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    only_es256(*algorithm, key.family())?;
    let pair = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        key.as_bytes(),
        &SystemRandom::new(),
    )
    .map_err(|_| new_error(ErrorKind::InvalidEcdsaKey))?;
    Ok(Box::new(Es256Signer(pair)))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    only_es256(*algorithm, key.family())?;
    let point = key.try_get_as_bytes()?.to_vec();
    Ok(Box::new(Es256Verifier(UnparsedPublicKey::new(
        &ECDSA_P256_SHA256_FIXED,
        point,
    ))))
}

fn only_es256(algorithm: Algorithm, family: AlgorithmFamily) -> Result<()> {
    if algorithm == Algorithm::ES256 && family == AlgorithmFamily::Ec {
        Ok(())
    } else {
        Err(new_error(ErrorKind::UnsupportedAlgorithm))
    }
}
