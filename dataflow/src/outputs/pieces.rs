//! What a worker holds of the snapshots, in pieces that travel to process 0.

use super::parts::{Parts, WorkerSnapshot};
use crate::durable::Staged;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use millrace_connectors::output::{Balance, OutputError};
use millrace_operators::domain::{Bucket, Fate, RecordId, Suspense};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows of a piece.
const ROWS: usize = 1 << 16;

/// A piece of a worker's part of the snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Piece {
    /// A batch of monetised usage: its shard, and the batch as an Arrow stream.
    Monetised(u64, Vec<u8>),
    /// A batch of impacts.
    Impacts(u64, Vec<u8>),
    /// The files of monetised usage and of impacts that have been written.
    Written(Vec<Staged>, Vec<Staged>),
    /// Buckets, what was carried into each, and where it stands.
    Balances(Vec<(Bucket, i128, i128)>),
    /// Suspended records.
    Suspense(Vec<Suspense>),
    /// What became of records.
    Fates(Vec<(RecordId, Fate)>),
}

impl WorkerSnapshot {
    /// The snapshot in pieces, its files finished.
    ///
    /// # Errors
    /// When a batch cannot be written as a stream, or a file.
    pub fn into_pieces(mut self) -> Result<Vec<Piece>, OutputError> {
        self.monetised.settle()?;
        self.impacts.settle()?;
        let written = [&mut self.monetised, &mut self.impacts];
        let [monetised, impacts] = written.map(|parts| std::mem::take(&mut parts.written));
        let mut pieces = vec![Piece::Written(monetised, impacts)];
        pack(self.monetised, &mut pieces, Piece::Monetised)?;
        pack(self.impacts, &mut pieces, Piece::Impacts)?;
        let balances = self.balances.into_iter();
        let balances: Vec<_> = balances.map(|b| (b.bucket, b.carried, b.value)).collect();
        let balances = balances.chunks(ROWS).map(<[_]>::to_vec);
        pieces.extend(balances.map(Piece::Balances));
        let suspense = self.suspense.chunks(ROWS).map(<[_]>::to_vec);
        pieces.extend(suspense.map(Piece::Suspense));
        let fates = self.fates.chunks(ROWS).map(<[_]>::to_vec);
        pieces.extend(fates.map(Piece::Fates));
        Ok(pieces)
    }

    /// Puts a piece in its place. Pieces of one shard come in their order.
    ///
    /// # Errors
    /// When a stream holds no batch.
    pub fn take(&mut self, piece: Piece) -> Result<(), OutputError> {
        match piece {
            Piece::Monetised(shard, stream) => unpack(&mut self.monetised, shard, &stream)?,
            Piece::Impacts(shard, stream) => unpack(&mut self.impacts, shard, &stream)?,
            Piece::Written(monetised, impacts) => {
                self.monetised.written.extend(monetised);
                self.impacts.written.extend(impacts);
            }
            Piece::Balances(balances) => {
                let balance = |(bucket, carried, value)| Balance {
                    bucket,
                    carried,
                    value,
                    accounts: Arc::default(),
                };
                self.balances.extend(balances.into_iter().map(balance));
            }
            Piece::Suspense(suspense) => self.suspense.extend(suspense),
            Piece::Fates(fates) => self.fates.extend(fates),
        }
        Ok(())
    }
}

fn pack(
    parts: Parts,
    pieces: &mut Vec<Piece>,
    piece: fn(u64, Vec<u8>) -> Piece,
) -> Result<(), ArrowError> {
    for (shard, batches) in parts.batches {
        for batch in batches {
            let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
            writer.write(&batch)?;
            pieces.push(piece(shard, writer.into_inner()?));
        }
    }
    Ok(())
}

fn unpack(parts: &mut Parts, shard: u64, stream: &[u8]) -> Result<(), ArrowError> {
    let batches: Vec<RecordBatch> =
        StreamReader::try_new(stream, None)?.collect::<Result<_, _>>()?;
    parts.batches.entry(shard).or_default().extend(batches);
    Ok(())
}
