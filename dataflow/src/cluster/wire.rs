//! What processes say to each other besides the dataflow: on a control link, words, each a length and a
//! value. How a connection begins is told in `door`.

use crate::graph::Resume;
use millrace_operators::epoch::Epoch;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// No word is longer.
const LONGEST: u32 = 1 << 20;

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
    /// See [`Resume`].
    pub(super) live: Epoch,
    pub(super) told: Epoch,
    /// An object that all must see among the outputs.
    pub(super) mark: Option<String>,
    /// What the names of outputs have in them.
    pub(super) tag: Option<String>,
}

impl Go {
    /// Where an earlier run ended.
    #[must_use]
    pub fn resume(&self) -> Resume {
        Resume {
            live: self.live,
            told: self.told,
            ..Resume::default()
        }
    }

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

/// A word on a control link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// To process 0: here I am.
    Hello(Hello),
    /// From process 0: not with me, and why.
    Refused(String),
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
}

/// A word as it is sent.
pub(super) fn bytes(word: &Word) -> io::Result<Vec<u8>> {
    let content = bincode::serialize(word).map_err(io::Error::other)?;
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&content);
    Ok(bytes)
}

pub(super) fn write(mut stream: &TcpStream, word: &Word) -> io::Result<()> {
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
    #[test]
    fn a_word_that_is_too_long_is_not_read() {
        assert!(super::read(&mut &[255_u8; 64][..]).is_err());
    }
}
