//! What a change moved: which accounts won and lost, and which price rows did it.

use crate::board::Board;
use crate::listener::{AccountMoved, PriceMoved};
use crate::publish::EpochChanges;
use millrace_connectors::names::Names;
use millrace_operators::domain::{AccountKey, MoneyTotal, Name, PriceKey};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The accounts that an epoch, which is on the board already, bills otherwise: the largest difference
/// first.
pub(super) fn accounts(changes: &EpochChanges, board: &Board, names: &Names) -> Vec<AccountMoved> {
    let mut sums: BTreeMap<(AccountKey, Name), MoneyTotal> = BTreeMap::new();
    for ((key, sum), diff) in &changes.lines {
        let account = sums.entry((key.account, key.currency)).or_default();
        *account = account.plus(times(sum.amount, *diff));
    }
    let mut moved: Vec<(MoneyTotal, AccountMoved)> = sums
        .into_iter()
        .filter(|(_, moved)| *moved != MoneyTotal::ZERO)
        .map(|((account, currency), moved)| {
            let after = board.account(account, currency);
            let before = after.minus(moved);
            let account = AccountMoved {
                account: names.account(account).to_string(),
                before: board.money(currency, before),
                after: board.money(currency, after),
                difference: signed(moved),
            };
            (magnitude(moved), account)
        })
        .collect();
    moved.sort_by(|a, b| (Reverse(a.0), &a.1.account).cmp(&(Reverse(b.0), &b.1.account)));
    moved.into_iter().map(|(_, moved)| moved).collect()
}

/// How much money each price row moved, the most first.
pub(super) fn prices(changes: &EpochChanges, names: &Names) -> Vec<PriceMoved> {
    let mut sums: BTreeMap<(PriceKey, Name), MoneyTotal> = BTreeMap::new();
    for (charge, diff) in &changes.charges {
        let price = sums.entry((charge.price, charge.currency)).or_default();
        *price = price.plus(times(charge.amount.into(), *diff));
    }
    let mut moved: Vec<(MoneyTotal, PriceMoved)> = sums
        .into_iter()
        .filter(|(_, moved)| *moved != MoneyTotal::ZERO)
        .map(|((price, currency), moved)| {
            let price = PriceMoved {
                id: names.price(price).to_string(),
                difference: format!("{} {}", signed(moved), names.text(currency)),
            };
            (magnitude(moved), price)
        })
        .collect();
    moved.sort_by(|a, b| (Reverse(a.0), &a.1.id).cmp(&(Reverse(b.0), &b.1.id)));
    moved.into_iter().map(|(_, moved)| moved).collect()
}

fn times(amount: MoneyTotal, diff: isize) -> MoneyTotal {
    amount.times(i64::try_from(diff).expect("a difference fits 64 bits"))
}

fn magnitude(moved: MoneyTotal) -> MoneyTotal {
    match moved < MoneyTotal::ZERO {
        true => moved.negated(),
        false => moved,
    }
}

fn signed(moved: MoneyTotal) -> String {
    let sign = if moved > MoneyTotal::ZERO { "+" } else { "" };
    format!("{sign}{moved}")
}
