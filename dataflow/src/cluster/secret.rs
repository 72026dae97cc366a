//! The secret that the processes of a cluster share, and the proofs that one has it.
//!
//! The secret itself is never sent. A proof is its HMAC-SHA256 over what both ends of a connection have
//! drawn for it, so one that was overheard is worth nothing on another connection. It says who is at the
//! other end when a connection begins; what goes over it afterwards is neither encrypted nor signed.

use super::error::ClusterError;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;

/// The environment variable that holds the secret.
pub const SECRET_VARIABLE: &str = "MILLRACE_CLUSTER_SECRET";
/// The environment variable that says in which file it is.
pub const SECRET_FILE_VARIABLE: &str = "MILLRACE_CLUSTER_SECRET_FILE";
/// A secret that has fewer bytes can be guessed.
const SHORTEST: usize = 16;

/// The bytes of a proof.
pub(super) const PROOF: usize = 32;
/// What an end of a connection has drawn for it.
pub(super) type Nonce = [u8; 32];

/// See the module. Where none is given all processes have the empty one, which proves nothing but that
/// what is said was said on this connection.
#[derive(Clone)]
pub struct Secret {
    key: hmac::Key,
    is_given: bool,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_given {
            "a secret"
        } else {
            "no secret"
        })
    }
}

impl Default for Secret {
    /// None is given.
    fn default() -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &[]),
            is_given: false,
        }
    }
}

impl Secret {
    /// The secret that an environment variable holds, or a file does. White space around it is not of it.
    ///
    /// # Errors
    /// When both are given, the file cannot be read, or the secret is short enough to be guessed.
    pub fn of(variable: Option<OsString>, file: Option<&Path>) -> Result<Self, ClusterError> {
        let asked = |text: String| Err(ClusterError::Asked(text));
        let (secret, place) = match (variable, file) {
            (None, None) => return Ok(Self::default()),
            (Some(_), Some(_)) => {
                return asked(format!(
                    "both {SECRET_VARIABLE} and a file hold the secret of the cluster; give one of them"
                ));
            }
            (Some(secret), None) => (secret.into_encoded_bytes(), SECRET_VARIABLE.to_owned()),
            (None, Some(file)) => match std::fs::read(file) {
                Ok(secret) => (secret, file.display().to_string()),
                Err(error) => {
                    return asked(format!(
                        "cannot read the secret of the cluster from {}: {error}",
                        file.display()
                    ));
                }
            },
        };
        let secret = secret.trim_ascii();
        if secret.len() < SHORTEST {
            return asked(format!(
                "the secret of the cluster in {place} has fewer than {SHORTEST} bytes and could be guessed; \
                 `openssl rand -hex 32` makes a good one"
            ));
        }
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            is_given: true,
        })
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.is_given
    }

    /// The proof that one who says `said` has the secret.
    pub(super) fn prove(&self, said: &[u8]) -> [u8; PROOF] {
        let tag = hmac::sign(&self.key, said);
        let mut proof = [0; PROOF];
        proof.copy_from_slice(tag.as_ref());
        proof
    }

    /// Whether whoever made `proof` has the secret, and said `said`.
    pub(super) fn is_proved(&self, said: &[u8], proof: &[u8; PROOF]) -> bool {
        hmac::verify(&self.key, said, proof).is_ok()
    }
}

/// A secret for processes that one starts itself, as text.
///
/// # Errors
/// When the system gives no random numbers.
pub fn draw_secret() -> io::Result<String> {
    let drawn: [u8; 32] = draw()?;
    Ok(drawn.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Bytes that nobody can foresee.
pub(super) fn draw<const N: usize>() -> io::Result<[u8; N]> {
    let mut drawn = [0; N];
    let filled = SystemRandom::new().fill(&mut drawn);
    filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef";

    #[test]
    fn a_secret_is_long_and_in_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let said = |secret: Result<Secret, ClusterError>| secret.unwrap_err().to_string();
        assert!(!Secret::of(None, None).unwrap().is_given());
        assert!(said(Secret::of(None, Some(&file))).contains("cannot read"));
        for short in ["", "short", "0123456789abcde \n"] {
            std::fs::write(&file, short).unwrap();
            assert!(said(Secret::of(None, Some(&file))).contains("fewer than 16 bytes"));
        }
        std::fs::write(&file, format!("{LONG}\n")).unwrap();
        assert!(said(Secret::of(Some(LONG.into()), Some(&file))).contains("give one of them"));
        let (one, other) = (
            Secret::of(None, Some(&file)).unwrap(),
            Secret::of(Some(LONG.into()), None).unwrap(),
        );
        assert!(one.is_given());
        assert_eq!(one.prove(b"x"), other.prove(b"x"));
        assert!(!format!("{one:?}").contains(LONG));
    }

    #[test]
    fn a_proof_is_of_the_secret_and_of_what_was_said() {
        let secret = Secret::of(Some(LONG.into()), None).unwrap();
        let proof = secret.prove(b"said");
        assert!(secret.is_proved(b"said", &proof));
        assert!(!secret.is_proved(b"Said", &proof));
        assert!(!Secret::default().is_proved(b"said", &proof));
        assert_ne!(draw::<32>().unwrap(), draw::<32>().unwrap());
    }
}
