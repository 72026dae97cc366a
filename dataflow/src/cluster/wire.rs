//! What processes say to each other besides the dataflow: on a control link, words, each a length and a
//! value. How a connection begins is told in `door`.

use crate::graph::{Opening, Resume, Shift, Stand};
use millrace_operators::domain::{ClosedUnits, GroupKey};
use millrace_operators::epoch::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// No word is longer.
const LONGEST: u32 = 1 << 20;
/// What is longer comes in parts of so many bytes.
pub(super) const PART: usize = 1 << 19;

/// The number of a run: what was opened for another is not of this one.
pub(super) type RunNumber = [u8; 16];

/// What a process tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) process: u64,
    pub(super) processes: u64,
    pub(super) workers: u64,
    /// The digest of the program.
    pub(super) program: String,
    /// The digest of the job file.
    pub(super) job: String,
}

/// How the run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Go {
    /// The number of the run.
    pub(super) run: RunNumber,
    /// The digest of where the run goes on, which came before in parts.
    pub(super) resume: [u8; 32],
    /// An object that all must see among the outputs.
    pub(super) mark: Option<String>,
    /// What the names of outputs have in them.
    pub(super) tag: Option<String>,
}

impl Go {
    /// What the names of outputs have in them, where epochs are made durable.
    #[must_use]
    pub fn tag(&self) -> Option<String> {
        self.tag.clone()
    }

    /// The name of an object that process 0 has put among the outputs, and its content, where all
    /// processes write there.
    #[must_use]
    pub fn mark(&self) -> Option<(&str, &[u8])> {
        self.mark.as_deref().map(|name| (name, self.run.as_slice()))
    }
}

type Stands = BTreeMap<GroupKey, Stand>;

/// Where an earlier run ended, for another process: see [`Resume`]. What subscriptions were charged in closed
/// bill units, the first worker tells alone.
#[derive(Debug, Serialize, Deserialize)]
struct Resumed {
    live: Epoch,
    told: Epoch,
    opening: Stands,
    shift: Option<(Epoch, Stands)>,
    closed: ClosedUnits,
}

/// Where a run goes on, as bytes.
pub(super) fn encode(resume: &Resume) -> io::Result<Vec<u8>> {
    let shift = resume.shift.as_ref();
    let resumed = Resumed {
        live: resume.live,
        told: resume.told,
        opening: resume.opening.0.clone(),
        shift: shift.map(|shift| (shift.at, shift.opening.0.clone())),
        closed: (*resume.closed).clone(),
    };
    bincode::serialize(&resumed).map_err(io::Error::other)
}

/// Where a run goes on, if these are the bytes of this digest.
pub(super) fn decode(bytes: &[u8], digest: [u8; 32]) -> io::Result<Resume> {
    if digest_of(bytes) != digest {
        return Err(io::Error::other("tells less than where the run goes on"));
    }
    let resumed: Resumed = bincode::deserialize(bytes).map_err(io::Error::other)?;
    let shift = resumed.shift.map(|(at, opening)| Shift {
        at,
        opening: Arc::new(Opening(opening)),
    });
    Ok(Resume {
        live: resumed.live,
        told: resumed.told,
        opening: Arc::new(Opening(resumed.opening)),
        shift,
        closed: Arc::new(resumed.closed),
        ..Resume::default()
    })
}

pub(super) fn digest_of(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// A word on a control link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// To process 0: here I am.
    Hello(Hello),
    /// From process 0: not with me, and why.
    Refused(String),
    /// From process 0: a part of where the run goes on.
    Part(Vec<u8>),
    /// From process 0: prepare this run.
    Go(Go),
    /// To process 0: prepared.
    Ready,
    /// From process 0: everybody is; connect.
    Begin,
    /// I live. From process 0 with the first epoch that is not bound yet.
    Alive(Epoch),
    /// To process 0: I was told to end; end the job in good order.
    End,
    /// I end, because of this.
    Failed(String),
    /// My part is done.
    Bye,
    /// From process 0: it is done, and the job begins again: report again.
    Again,
    /// From process 0: all are there, and it takes the job over.
    Gathered,
}

/// A word as it is sent.
pub(super) fn bytes(word: &Word) -> io::Result<Vec<u8>> {
    let content = bincode::serialize(word).map_err(io::Error::other)?;
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&content);
    Ok(bytes)
}

pub(super) fn write(stream: &mut impl Write, word: &Word) -> io::Result<()> {
    stream.write_all(&bytes(word)?)
}

pub(super) fn read(stream: &mut impl Read) -> io::Result<Word> {
    let length = u32::from_le_bytes(take(stream)?);
    if length > LONGEST {
        return Err(io::Error::other("is of another version"));
    }
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut content)?;
    bincode::deserialize(&content).map_err(io::Error::other)
}

pub(super) fn take<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    /// Words of every kind.
    fn words() -> Vec<Word> {
        let hello = Hello {
            process: 1,
            processes: 3,
            workers: 2,
            program: "program".to_owned(),
            job: "job".to_owned(),
        };
        let go = Go {
            run: [7; 16],
            resume: [9; 32],
            mark: Some("mark".to_owned()),
            tag: None,
        };
        let text = || "why".to_owned();
        vec![
            Word::Hello(hello),
            Word::Refused(text()),
            Word::Part(vec![1, 2, 3, 4, 5]),
            Word::Go(go),
            Word::Ready,
            Word::Begin,
            Word::Gathered,
            Word::Alive(77),
            Word::End,
            Word::Failed(text()),
            Word::Bye,
            Word::Again,
        ]
    }

    /// Bytes with some of them others, cut, and with more behind them.
    fn changed(mut bytes: Vec<u8>, others: &[(Index, u8)], end: Index, more: &[u8]) -> Vec<u8> {
        for (at, byte) in others {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        // The most are whole.
        let end = end.index(bytes.len() * 3);
        bytes.truncate(end.max(1));
        bytes.extend(more);
        bytes
    }

    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), select(vec![0, 1, 10, 11, 0x7f, 0x80, 0xff])]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn whatever_comes_is_a_word_or_an_error(
            word in select(words()),
            others in vec((any::<Index>(), byte()), 0..6),
            end in any::<Index>(),
            more in vec(byte(), 0..24),
        ) {
            let sent = bytes(&word).unwrap();
            let whole = read(&mut &*sent).unwrap();
            prop_assert_eq!(&whole, &word);
            let came = changed(sent, &others, end, &more);
            let mut rest = &*came;
            if let Ok(word) = read(&mut rest) {
                // No more is taken than the length says, so that the next word is read where it begins.
                let length = u32::from_le_bytes(*came.first_chunk().unwrap());
                let taken = came.len() - rest.len();
                prop_assert_eq!(taken, usize::try_from(length).unwrap() + 4);
                prop_assert_eq!(read(&mut &*bytes(&word).unwrap()).unwrap(), word);
            }
        }

        #[test]
        fn where_a_run_goes_on_is_told_or_an_error(
            others in vec((any::<Index>(), byte()), 0..6),
            end in any::<Index>(),
            more in vec(byte(), 0..24),
        ) {
            let came = changed(encode(&resume()).unwrap(), &others, end, &more);
            if let Ok(resume) = decode(&came, digest_of(&came)) {
                let again = encode(&resume).unwrap();
                prop_assert_eq!(encode(&decode(&again, digest_of(&again)).unwrap()).unwrap(), again);
            }
        }
    }

    fn resume() -> Resume {
        let stand = Stand {
            at: millrace_operators::domain::EventTime(7),
            moved: BTreeMap::new(),
        };
        let opening = Opening([(GroupKey(1), stand)].into_iter().collect());
        Resume {
            live: 5,
            told: 3,
            shift: Some(Shift {
                at: 4,
                opening: Arc::new(opening.clone()),
            }),
            opening: Arc::new(opening),
            ..Resume::default()
        }
    }

    #[test]
    fn where_a_run_goes_on_is_told_whole() {
        let resume = resume();
        let bytes = encode(&resume).unwrap();
        let read = decode(&bytes, digest_of(&bytes)).unwrap();
        assert_eq!(encode(&read).unwrap(), bytes);
        assert_eq!((read.live, read.told, &read.shift), (5, 3, &resume.shift));
        assert!(decode(&bytes[1..], digest_of(&bytes)).is_err());
    }

    #[test]
    fn a_word_that_is_too_long_is_not_read() {
        assert!(super::read(&mut &[255_u8; 64][..]).is_err());
    }
}
