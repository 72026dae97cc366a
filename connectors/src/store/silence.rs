//! A store that answers nothing, whatever it is asked: it takes connections and is silent, or is not there.
//!
//! Each request has its own timeout and is tried again, so a run that needs many objects would wait for
//! ever, object by object. When nothing at all was heard for a while, a request fails at once instead; one
//! now and then goes through, and what it hears makes everything as before.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a store may be silent, where requests have no longer timeout.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a store that was silent for so long is asked again, and how long that may take.
const AGAIN: Duration = Duration::from_secs(5);

/// Why nothing is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has answered nothing for {} s", .0.as_secs())]
pub(super) struct Silent(pub(super) Duration);

impl From<Silent> for object_store::Error {
    fn from(silent: Silent) -> Self {
        Self::Generic {
            store: "S3",
            source: Box::new(silent),
        }
    }
}

/// What is heard of a store.
pub(super) struct Silence {
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since when nothing was heard of what was asked.
    since: Option<Instant>,
    /// When something was asked, or given up, last.
    asked: Option<Instant>,
    /// When it was tried last whether the silence goes on.
    tried: Option<Instant>,
}

impl fmt::Debug for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "silent for up to {:?}", self.patience)
    }
}

impl Silence {
    /// One that is borne for so long.
    pub(super) fn of(patience: Duration) -> Self {
        Self {
            patience,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Any of its states is as good as another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait for what is asked at `now`; no time where nothing is to be asked.
    fn begin(&self, now: Instant) -> Duration {
        let mut state = self.state();
        // Of a store that nobody asked for long, nobody knows that it is silent.
        let idle = |asked| now.duration_since(asked) > self.patience;
        if state.asked.replace(now).is_none_or(idle) {
            *state = State {
                asked: Some(now),
                ..State::default()
            };
        }
        let since = *state.since.get_or_insert(now);
        let left = self.patience.saturating_sub(now.duration_since(since));
        if !left.is_zero() {
            return left;
        }
        let tried = *state.tried.get_or_insert(now);
        if now.duration_since(tried) < AGAIN {
            return Duration::ZERO;
        }
        state.tried = Some(now);
        AGAIN
    }

    /// How long to wait on for what was asked; no time where nothing was heard since.
    fn go_on(&self, now: Instant) -> Duration {
        let mut state = self.state();
        state.asked = Some(now);
        let since = *state.since.get_or_insert(now);
        let left = self.patience.saturating_sub(now.duration_since(since));
        if left.is_zero() {
            state.tried.get_or_insert(now);
        }
        left
    }

    fn heard(&self) {
        *self.state() = State::default();
    }

    /// What a request brings, or that the store is silent.
    pub(super) async fn ask<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let mut request = pin!(request);
        let mut left = self.begin(Instant::now());
        while !left.is_zero() {
            if let Ok(answer) = timeout(left, &mut request).await {
                match answer.as_ref().err().is_none_or(is_answer) {
                    true => self.heard(),
                    false => self.state().asked = Some(Instant::now()),
                }
                return answer;
            }
            left = self.go_on(Instant::now());
        }
        Err(Silent(self.patience).into())
    }
}

/// Whether an error is what the store said, and not that it said nothing.
fn is_answer(error: &object_store::Error) -> bool {
    match error {
        // What the store said is in the text alone.
        object_store::Error::Generic { source, .. } => {
            let text = source.to_string();
            ["status code: ", "error response: "]
                .iter()
                .any(|said| text.contains(said))
        }
        object_store::Error::JoinError { .. } => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const SHORT: Duration = Duration::from_millis(300);

    fn now<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(future)
    }

    fn is_silent(error: &object_store::Error) -> bool {
        matches!(error, object_store::Error::Generic { source, .. } if source.is::<Silent>())
    }

    #[test]
    fn one_deadline_is_for_all_that_is_asked() {
        let silence = Silence::of(SHORT);
        let begun = Instant::now();
        for _ in 0..100 {
            let asked = silence.ask(pending::<object_store::Result<()>>());
            assert!(is_silent(&now(asked).unwrap_err()));
        }
        assert!(begun.elapsed() < AGAIN, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_heard_ends_the_silence() {
        let silence = Silence::of(SHORT);
        let missing = || object_store::Error::NotFound {
            path: String::new(),
            source: "no".into(),
        };
        let busy = || object_store::Error::Generic {
            store: "S3",
            source: "Server returned non-2xx status code: 503".into(),
        };
        let refused = || object_store::Error::Generic {
            store: "S3",
            source: "error sending request".into(),
        };
        now(async {
            let mut left = Vec::new();
            for answer in [Ok(()), Err(missing()), Err(busy())] {
                tokio::time::sleep(SHORT / 2).await;
                silence
                    .ask(ready(Err::<(), _>(refused())))
                    .await
                    .unwrap_err();
                silence.ask(ready(answer)).await.ok();
                left.push(silence.state().since);
            }
            assert_eq!(left, [None; 3]);
            // Of a request that waits while another is answered, the store is not silent.
            let slow = async {
                tokio::time::sleep(SHORT + SHORT / 2).await;
                Ok(())
            };
            let other = async {
                tokio::time::sleep(SHORT * 3 / 4).await;
                silence.ask(ready(Ok(()))).await
            };
            let (slow, other) = tokio::join!(silence.ask(slow), other);
            assert!(slow.is_ok() && other.is_ok());
        });
    }

    #[test]
    fn one_that_comes_back_is_heard() {
        let silence = Silence::of(SHORT);
        let begun = Instant::now();
        let at = |tenths: u32| begun + Duration::from_millis(100) * tenths;
        assert_eq!(silence.begin(at(0)), SHORT);
        assert_eq!(silence.begin(at(1)), SHORT - Duration::from_millis(100));
        assert_eq!(silence.go_on(at(3)), Duration::ZERO);
        // Whoever asks all the time is let through now and then.
        let asks: Vec<Duration> = (4..160).map(|tenths| silence.begin(at(tenths))).collect();
        let through = asks.iter().filter(|left| **left == AGAIN).count();
        assert_eq!(through, 3, "{asks:?}");
        assert_eq!(asks.iter().filter(|left| left.is_zero()).count(), 153);
        silence.heard();
        assert_eq!(silence.begin(at(161)), SHORT);
        // It was asked nothing for so long that it may have come back.
        assert_eq!(silence.begin(at(400)), SHORT);
    }
}
