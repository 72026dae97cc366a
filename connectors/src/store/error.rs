//! What can go wrong between us and the bytes, and what to do about it.

#[cfg(feature = "s3")]
use super::silence::Silent;
use crate::redact::redacted;
#[cfg(feature = "s3")]
use std::error::Error;
use std::io;
#[cfg(feature = "s3")]
use std::iter::successors;

/// What can go wrong between us and the bytes.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A URL of a kind that is not known.
    #[error("cannot open {:?}: {hint}", redacted(.location))]
    Unsupported {
        /// The location.
        location: String,
        /// What would work.
        hint: &'static str,
    },
    /// There is no such folder, file, bucket or object.
    #[error(
        "cannot {attempt} {:?}: it does not exist; check the path and its spelling",
        redacted(.location)
    )]
    Missing {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        location: String,
    },
    /// The store said no.
    #[error(
        "cannot {attempt} {:?}: access denied; check the permissions, and for s3 \
         AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION: {}",
        redacted(.location),
        redacted(.detail)
    )]
    Denied {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        location: String,
        /// What the store said.
        detail: String,
    },
    /// The store does not believe a request that says another time than its own.
    #[error(
        "cannot {attempt} {:?}: the clock of this machine and that of the store differ by too much; set \
         the clock, by NTP best, and start again: {}",
        redacted(.location),
        redacted(.detail)
    )]
    Skewed {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        location: String,
        /// What the store said.
        detail: String,
    },
    /// The store answers nothing, whatever is asked.
    #[error(
        "cannot {attempt} {:?}: the store has answered nothing for {seconds} s; check AWS_ENDPOINT_URL \
         and the network to it, and start again",
        redacted(.location)
    )]
    Silent {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        location: String,
        /// How long it has been silent at least.
        seconds: u64,
    },
    /// Something of the system or the network; another try may succeed.
    #[error(
        "cannot {attempt} {:?}: {}",
        redacted(.location),
        redacted(&.source.to_string())
    )]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// Where.
        location: String,
        /// What the system said.
        source: io::Error,
    },
    /// The store takes an object away whatever it is by then.
    #[error(
        "the store of {:?} takes no object away on condition that it is what was read (`If-Match` of a \
         DELETE), and what comes in its place must not be lost; leave `after: move` out",
        redacted(.location)
    )]
    Unconditional {
        /// The object.
        location: String,
    },
    /// Another file has the name that one had.
    #[error("{:?} is another file by now; whoever sent both knows which holds", redacted(.location))]
    Taken {
        /// The name.
        location: String,
    },
    /// The store gives no etag, so the same content could not be recognised.
    #[error(
        "{:?} has no etag, so a repeated file could not be told; use a store with etags",
        redacted(.location)
    )]
    NoEtag {
        /// Where.
        location: String,
    },
}

impl StoreError {
    /// That the store of `location` is silent, where an error comes from that.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn silent_in(error: &(dyn Error + 'static), location: &str) -> Option<Self> {
        let mut causes = successors(Some(error), |error: &&(dyn Error + 'static)| {
            (*error).source()
        });
        let silent = causes.find_map(|error| error.downcast_ref::<Silent>())?;
        Some(Self::Silent {
            attempt: "read",
            location: location.to_owned(),
            seconds: silent.0.as_secs(),
        })
    }

    /// The kind of error that the system's error is.
    pub(crate) fn io(attempt: &'static str, location: &str, source: io::Error) -> Self {
        // What a bucket said comes as an error of a stream where a stream was read or written.
        #[cfg(feature = "s3")]
        let source = match source.downcast::<object_store::Error>() {
            Ok(error) => return Self::remote(attempt, location, error),
            Err(source) => source,
        };
        let location = location.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { attempt, location },
            io::ErrorKind::PermissionDenied => Self::Denied {
                attempt,
                location,
                detail: source.to_string(),
            },
            _ => Self::Io {
                attempt,
                location,
                source,
            },
        }
    }

    #[cfg(feature = "s3")]
    pub(super) fn remote(
        attempt: &'static str,
        location: &str,
        error: object_store::Error,
    ) -> Self {
        let location = location.to_owned();
        match error {
            object_store::Error::Generic { source, .. } if source.is::<Silent>() => Self::Silent {
                attempt,
                location,
                seconds: source
                    .downcast_ref::<Silent>()
                    .map_or(0, |silent| silent.0.as_secs()),
            },
            // It looks like a refusal of the keys.
            error
                if error
                    .to_string()
                    .contains("<Code>RequestTimeTooSkewed</Code>") =>
            {
                Self::Skewed {
                    attempt,
                    location,
                    detail: error.to_string(),
                }
            }
            object_store::Error::NotFound { .. } => Self::Missing { attempt, location },
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => Self::Denied {
                attempt,
                location,
                detail: error.to_string(),
            },
            // Requests about a whole bucket fail without a kind; what the server said is in the text.
            error if error.to_string().contains("<Code>NoSuchBucket</Code>") => {
                Self::Missing { attempt, location }
            }
            error if error.to_string().contains("status code: 403") => Self::Denied {
                attempt,
                location,
                detail: error.to_string(),
            },
            error => Self::Io {
                attempt,
                location,
                source: io::Error::other(error),
            },
        }
    }
}

/// An error of a store as one of the standard library's streams.
#[cfg(feature = "s3")]
pub(super) fn stream_error(error: object_store::Error) -> std::io::Error {
    std::io::Error::other(error)
}
