"""Bills the examples a second time and compares the bill of a job with it, line by line.

    python bill.py <bill> <examples folder> <output folder of the job>

Nothing here is shared with the job: usage and the price list are read as they are published, the
rules are written again in SQL, and DuckDB adds up in decimals. Numbers of the JSON price list are
taken by their text, so that no binary float comes near an amount. On agreement the totals are
printed as JSON; otherwise the differences, and the exit status is 1.
"""

import json
import sys
from decimal import Decimal
from pathlib import Path

import duckdb

import plans

# Price columns hold this many decimals; a price with more would be rounded by the cast, silently.
PRICE_DECIMALS = 18

ITEMS = {
    "input_tokens": "input_cost_per_token",
    "cached_tokens": "cache_read_input_token_cost",
    "output_tokens": "output_cost_per_token",
}


def text_of(number):
    """A decimal without exponent and trailing zeros: equal numbers have equal text."""
    text = format(Decimal(number), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def load_prices(connection, path):
    """What the LiteLLM list says of the models in use: one row per model, context and item."""
    used = connection.execute("SELECT DISTINCT model FROM usage").fetchall()
    models = json.loads(path.read_text(), parse_float=str, parse_int=str)
    rows = []
    for (model,) in used:
        for item, field in ITEMS.items():
            for context, suffix in (("", ""), ("above_200k", "_above_200k_tokens")):
                price = models[model].get(field + suffix)
                if price is None:
                    continue
                if Decimal(price).as_tuple().exponent < -PRICE_DECIMALS:
                    sys.exit(f"{model} {field}{suffix}: {price} has too many decimals")
                rows.append((model, context, item, text_of(price)))
    connection.execute("CREATE TABLE price_text (model TEXT, context TEXT, item TEXT, price TEXT)")
    connection.executemany("INSERT INTO price_text VALUES (?, ?, ?, ?)", rows)
    connection.execute(
        f"CREATE TABLE prices AS SELECT * REPLACE (price::DECIMAL(24, {PRICE_DECIMALS}) AS price) "
        "FROM price_text"
    )


def load_csv(connection, table, path):
    """A CSV file as a table of text, with the number of each row."""
    path = str(path).replace("'", "''")
    connection.execute(
        f"CREATE TABLE {table} AS SELECT *, row_number() OVER () AS number FROM "
        f"read_csv('{path}', all_varchar = true, header = true, parallel = false)"
    )


# A call of more than 200,000 input tokens costs the price of the long context, all of it, where the
# model has one; otherwise the plain price.
AGENT_LINES = """
WITH kept AS ({kept}),
charges AS (
    SELECT {account} AS account, model,
           CASE WHEN input_tokens::BIGINT > 200000 THEN 'above_200k' ELSE '' END AS context,
           date_trunc('month', TIMESTAMP '2026-08-03 09:00:00'
               + INTERVAL 1 MILLISECOND * (t_s::DECIMAL(12, 3) * 1000)::BIGINT) AS unit,
           unnest([
               {{'item': 'input_tokens',
                 'quantity': input_tokens::BIGINT - cache_read_tokens::BIGINT}},
               {{'item': 'cached_tokens', 'quantity': cache_read_tokens::BIGINT}},
               {{'item': 'output_tokens', 'quantity': output_tokens::BIGINT}}
           ], recursive := true)
    FROM kept
),
priced AS (
    SELECT c.*, coalesce(long.price, plain.price) AS price
    FROM charges c
    LEFT JOIN prices long ON c.context <> '' AND long.context = c.context
        AND long.model = c.model AND long.item = c.item
    LEFT JOIN prices plain ON plain.context = '' AND plain.model = c.model AND plain.item = c.item
)
SELECT account, unit::VARCHAR, model, context, item,
       count(*), sum(quantity)::VARCHAR, sum(quantity::DECIMAL(14, 0) * price)::VARCHAR,
       count(price)
FROM priced GROUP BY ALL
"""

# The first of all rows that agree in these columns: file order is order of arrival.
ONCE_PER_TURN = """
SELECT * FROM usage
QUALIFY row_number() OVER (
    PARTITION BY session_id, agent_id, input_tokens, prefix_hash ORDER BY number) = 1
"""


def agents(connection, examples, usage, kept, account):
    load_csv(connection, "usage", examples / "llm" / "usage" / usage)
    load_prices(connection, examples / "llm" / "model_prices_and_context_window.json")
    load_csv(connection, "sessions", examples / "llm" / "sessions.csv")
    return connection.execute(AGENT_LINES.format(kept=kept, account=account)).fetchall()


# The price list of the second example, written as a rule: token prices in millionths of a dollar
# per million tokens.
VOLUME_LINES = """
WITH calls AS (
    SELECT client, split_part(client, '/', 1) AS model, t_ms::BIGINT AS ms,
           input_tokens::BIGINT AS input, output_tokens::BIGINT AS output
    FROM usage
),
rates AS (
    SELECT *, CASE
        WHEN client = 'm-mid/60' AND ms < 11 * 86400000 THEN 310000
        WHEN client = 'm-mid/30' THEN 360000
        WHEN model = 'm-large' AND ms < 7 * 86400000 THEN 2800000
        WHEN model = 'm-large' THEN 2200000
        WHEN model = 'm-mid' AND ms < 7 * 43200000 THEN 450000
        WHEN model = 'm-mid' THEN 405000
        WHEN model = 'm-small' THEN 75000 END AS input_rate, CASE
        WHEN client = 'm-mid/60' AND ms < 11 * 86400000 THEN 930000
        WHEN client = 'm-mid/30' THEN 1080000
        WHEN model = 'm-large' AND ms < 7 * 86400000 THEN 8400000
        WHEN model = 'm-large' THEN 6600000
        WHEN model = 'm-mid' THEN 1350000
        WHEN model = 'm-small' THEN 225000 END AS output_rate, CASE
        WHEN model = 'm-small' THEN 0 ELSE 20000000 END AS fee
    FROM calls
),
charges AS (
    SELECT client, model, ms, unnest([
        {'item': 'input_tokens', 'quantity': input, 'parts': input * input_rate},
        {'item': 'output_tokens', 'quantity': output, 'parts': output * output_rate},
        {'item': 'requests', 'quantity': 1, 'parts': fee::BIGINT}
    ], recursive := true)
    FROM rates
)
SELECT client, (TIMESTAMP '2026-09-01' + INTERVAL 7 DAY * (ms // (7 * 86400000)))::VARCHAR,
       model, '', item, count(*), sum(quantity)::VARCHAR,
       (sum(parts)::DECIMAL(26, 0) * 0.000000000001::DECIMAL(12, 12))::VARCHAR, count(parts)
FROM charges GROUP BY ALL
"""


def volume(connection, examples):
    load_csv(connection, "usage", examples / "llm-volume" / "usage" / "requests.csv.gz")
    return connection.execute(VOLUME_LINES).fetchall()


TEAM = "(SELECT team FROM sessions WHERE session = session_id)"
DOUBLE = "requests_double_recorded.csv.gz"
BILLS = {
    "llm": lambda c, e: agents(c, e, "requests.csv.gz", "SELECT * FROM usage", TEAM),
    "double-recorded": lambda c, e: agents(c, e, DOUBLE, ONCE_PER_TURN, "'agents'"),
    "double-recorded-every-row": lambda c, e: agents(
        c, e, DOUBLE, "SELECT * FROM usage", "'agents'"
    ),
    "llm-volume": volume,
    "subscriptions": lambda _, e: plans.lines(e),
}

# What subscriptions are charged without usage has lines, and no monetised records.
WITHOUT_USAGE = "('seat', 'commitment', 'minimum')"


def by_key(rows):
    """Lines by what they are for; two lines for the same are a difference too."""
    lines = {}
    for account, unit, model, context, item, charges, quantity, amount in rows:
        key = (account, unit, model or "", context or "", item)
        if key in lines:
            sys.exit(f"two lines for {key}")
        lines[key] = (charges, text_of(quantity), text_of(amount))
    return lines


def job_lines(connection, out):
    """The lines of the job, after looking whether its charges add up to them."""
    for name in ("aggregated", "monetised"):
        path = str(out / name / "snapshot" / "*.parquet").replace("'", "''")
        connection.execute(f"CREATE VIEW all_{name} AS FROM read_parquet('{path}')")
        connection.execute(
            f"CREATE VIEW {name} AS FROM all_{name} WHERE item NOT IN {WITHOUT_USAGE}"
        )
    apart = connection.execute(
        """
        WITH charged AS (
            SELECT aggregate_id, count(*) AS charges, sum(quantity) AS quantity,
                   sum(amount) AS amount, count(DISTINCT (account, item, bill_unit_start)) AS kinds
            FROM monetised GROUP BY aggregate_id
        )
        SELECT coalesce(a.aggregate_id, m.aggregate_id), a.charges, m.charges, a.quantity,
               m.quantity, a.amount, m.amount
        FROM aggregated a FULL JOIN charged m ON a.aggregate_id = m.aggregate_id
        WHERE a.charges IS DISTINCT FROM m.charges OR a.quantity IS DISTINCT FROM m.quantity
           OR a.amount IS DISTINCT FROM m.amount OR m.kinds <> 1
        """
    ).fetchall()
    sums = connection.execute(
        "SELECT (SELECT sum(amount)::VARCHAR FROM monetised), "
        "(SELECT sum(amount)::VARCHAR FROM aggregated)"
    ).fetchone()
    if apart or sums[0] != sums[1]:
        for row in apart[:20]:
            print("charges do not add up to their line:", row)
        sys.exit(f"monetised {sums[0]}, aggregated {sums[1]}; {len(apart)} lines differ")
    names = [column[0] for column in connection.execute("DESCRIBE aggregated").fetchall()]
    context = "context" if "context" in names else "''"
    return connection.execute(
        f"SELECT account, (bill_unit_start AT TIME ZONE 'UTC')::VARCHAR, model, {context}, item, "
        "charges, quantity::VARCHAR, amount::VARCHAR FROM all_aggregated"
    ).fetchall()


def main():
    bill, examples, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    connection = duckdb.connect()
    rows = BILLS[bill](connection, examples)
    unpriced = [row for row in rows if row[5] != row[8]]
    if unpriced:
        sys.exit(f"no price for {unpriced[:5]}")
    expected, found = by_key(row[:8] for row in rows), by_key(job_lines(connection, out))
    different = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    for key in sorted(different)[:20]:
        print(f"{key}: expected {expected.get(key)}, the job says {found.get(key)}")
    if different:
        sys.exit(f"{len(different)} of {len(expected)} lines differ")
    items = {}
    for (_, _, _, _, item), (_, _, amount) in expected.items():
        items[item] = items.get(item, Decimal(0)) + Decimal(amount)
    report = {
        "lines": len(expected),
        "total": text_of(sum(items.values())),
        "items": {item: text_of(amount) for item, amount in sorted(items.items())},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
