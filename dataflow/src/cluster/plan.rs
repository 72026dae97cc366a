//! How this process runs a job with others.

use super::door::Keys;
use super::error::ClusterError;
use super::hosts::Place;
use super::secret::{SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secret};
use super::tls::TlsFiles;
use std::time::Duration;

/// How this process runs a job with others.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Which process this is, and where the others are.
    pub place: Place,
    /// How long to wait for the others at the start.
    pub patience: Duration,
    /// What tells the processes from strangers.
    pub secret: Secret,
    /// The certificates by which they encrypt what they say, if they do.
    pub tls: Option<TlsFiles>,
}

impl ClusterPlan {
    /// A plan that strangers cannot harm.
    ///
    /// # Errors
    /// When processes have no secret, and are on other machines, or none has said that they go without.
    pub fn of(
        place: Place,
        patience: Duration,
        secret: Secret,
        goes_without: bool,
        tls: Option<TlsFiles>,
    ) -> Result<Self, ClusterError> {
        let give = format!(
            "give all processes the same secret, in {SECRET_VARIABLE} or in a file that --secret-file names"
        );
        let asked = |text: String| Err(ClusterError::Asked(text));
        match (secret.is_given(), place.beyond_loopback()) {
            (true, _) if goes_without => asked(format!(
                "a secret is given, and --no-secret says that there is none; take one of them away from \
                 all processes, {SECRET_VARIABLE} and {SECRET_FILE_VARIABLE} included"
            )),
            (false, Some(host)) => asked(format!(
                "{host} is not on this machine's loopback, and whoever reaches it could take the place of a \
                 process: {give}"
            )),
            (false, None) if !goes_without => asked(format!(
                "whoever is on this machine could take the place of a process: {give}; `millrace cluster \
                 run` makes one by itself; or say --no-secret to all, where nobody else is on this machine"
            )),
            _ => Ok(Self {
                place,
                patience,
                secret,
                tls,
            }),
        }
    }

    /// What tells the processes from strangers, with the certificates that the files hold now.
    pub(super) fn keys(&self) -> Result<Keys, ClusterError> {
        let host = &self.place.hosts[self.place.process];
        let tls = self.tls.as_ref().map(|files| files.load(host));
        Ok(Keys {
            secret: self.secret.clone(),
            tls: tls.transpose()?,
        })
    }
}
