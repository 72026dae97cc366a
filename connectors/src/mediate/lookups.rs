//! Which columns of which lookup tables a rule asks for, so that no more of a table is loaded.

use super::rule::{IdentityRule, MediationRule, Sql};
use datafusion_sql::parser::DFParser;
use datafusion_sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, visit_expressions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// The columns asked for, by table. What is no call of a lookup function with its table and column
/// written out is left for the rule's own check.
#[must_use]
pub fn columns_looked_up(rule: &MediationRule) -> BTreeMap<String, BTreeSet<String>> {
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (table, column) in expressions(rule).flat_map(|sql| lookups_in(sql).0) {
        tables.entry(table).or_default().insert(column);
    }
    tables
}

/// All expressions of a rule.
fn expressions(rule: &MediationRule) -> impl Iterator<Item = &Sql> {
    let identity = match &rule.identity {
        IdentityRule::Position => [].as_slice(),
        IdentityRule::Fields(fields) => fields,
    };
    let named = [&rule.lets, &rule.attributes, &rule.charges];
    let named = named
        .into_iter()
        .flat_map(|named| named.0.iter().map(|(_, sql)| sql));
    let single = rule
        .filter
        .iter()
        .chain(identity)
        .chain(
            [&rule.keep, &rule.kind, &rule.version]
                .into_iter()
                .flatten(),
        )
        .chain([&rule.service, &rule.time]);
    named.chain(single)
}

/// Whether each call of a lookup function has its table and column written out.
#[must_use]
pub fn says_what_it_looks_up(rule: &MediationRule) -> bool {
    expressions(rule).all(|sql| lookups_in(sql).1)
}

/// The tables and columns of the calls that have them written out, and whether those are all calls.
fn lookups_in(sql: &Sql) -> (Vec<(String, String)>, bool) {
    let Ok(parsed) = DFParser::parse_sql_into_expr(&sql.value) else {
        return (Vec::new(), false);
    };
    let (mut found, mut calls) = (Vec::new(), 0);
    let _all_visited: ControlFlow<()> = visit_expressions(&parsed.expr, |node| {
        if let Expr::Function(call) = node
            && call.name.to_string().to_lowercase().starts_with("lookup")
        {
            calls += 1;
            if let FunctionArguments::List(list) = &call.args
                && let [table, column, ..] = list.args.as_slice()
                && let (Some(table), Some(column)) = (text(table), text(column))
            {
                found.push((table, column));
            }
        }
        ControlFlow::Continue(())
    });
    let all = found.len() == calls;
    (found, all)
}

fn text(argument: &FunctionArg) -> Option<String> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_are_found_wherever_they_stand() {
        let rule = "\
identity: [\"lookup_or_null('a', 'x', id)\"]
service: upper(lookup('teams', 'team', session))
time: t
let: { zone: \"CASE WHEN lookup('teams', 'kind', session) = 'z' THEN 1 ELSE 2 END\" }
charges: { n: \"1\", m: \"lookup(tables, 'y', id)\" }
";
        let read = crate::reference::yaml::read::<MediationRule>("m.yaml", rule);
        assert_eq!(read.findings, []);
        let found: Vec<String> = columns_looked_up(&read.value.unwrap())
            .into_iter()
            .map(|(table, columns)| format!("{table}: {columns:?}"))
            .collect();
        assert_eq!(found, ["a: {\"x\"}", "teams: {\"kind\", \"team\"}"]);
    }
}
