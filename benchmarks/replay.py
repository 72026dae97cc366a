"""The bill of the replay, computed from scratch by DuckDB, and compared with the job's lines.

Arguments: the folder with the job, threads. Prints {"seconds": ..., "equal": ...}.
"""

import json
import sys
import time

import duckdb

folder, threads = sys.argv[1], int(sys.argv[2])
db = duckdb.connect(config={"threads": threads, "preserve_insertion_order": "false"})
db.execute("SET TimeZone = 'UTC'")

started = time.monotonic()
db.execute(f"""
    CREATE TABLE prices AS
      SELECT model, price::DECIMAL(18, 2) AS price
      FROM read_csv('{folder}/prices.csv', all_varchar = true);
    CREATE TABLE services AS
      SELECT key, account FROM read_csv('{folder}/services.csv', all_varchar = true);
    COPY (
      WITH first AS (
        SELECT id, min(file_row_number) AS position
        FROM read_parquet('{folder}/usage.parquet', file_row_number = true)
        GROUP BY id
      ), usage AS (
        SELECT u.* FROM read_parquet('{folder}/usage.parquet', file_row_number = true) u
        JOIN first f ON f.id = u.id AND f.position = u.file_row_number
      )
      SELECT u.id, u.key, s.account, u.model, u.at,
             date_trunc('month', u.at) AS bill_unit_start,
             u.tokens, p.price,
             (u.tokens * p.price)::DECIMAL(38, 2) * 0.000001 AS amount, 'USD' AS currency
      FROM usage u
      JOIN services s ON s.key = u.key
      JOIN prices p ON p.model = u.model
    ) TO '{folder}/peer.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1);
    CREATE TABLE lines AS
      SELECT account, bill_unit_start, model, count(*) AS charges, sum(tokens) AS quantity,
             sum(amount) AS amount
      FROM '{folder}/peer.parquet' GROUP BY ALL;
""")
seconds = time.monotonic() - started

different = db.execute(f"""
    WITH ours AS (
      SELECT account::VARCHAR AS account, bill_unit_start, model, charges,
             quantity::DECIMAL(38, 0) AS quantity, amount::DECIMAL(38, 8) AS amount
      FROM '{folder}/out/aggregated/snapshot/*.parquet'
    ), peer AS (
      SELECT account, bill_unit_start, model, charges, quantity::DECIMAL(38, 0) AS quantity,
             amount::DECIMAL(38, 8) AS amount
      FROM lines
    )
    SELECT count(*) FROM (
      (SELECT * FROM ours EXCEPT SELECT * FROM peer) UNION ALL
      (SELECT * FROM peer EXCEPT SELECT * FROM ours)
    )
""").fetchone()[0]
print(json.dumps({"seconds": seconds, "equal": different == 0}))
