#!/usr/bin/env bash
# Starts one Apache Kafka broker on loopback, from its Maven artifacts: Java 17 and Maven are all it
# needs. The first start downloads about 45 MB, later ones nothing.
#
#   examples/kafka/broker.sh [port] [folder]
#
# The folder keeps the topics; without one it is below target/kafka. Ctrl-C stops the broker.
#
# The tests start it with more:
#   KAFKA_CONTROLLER_PORT  the second port, of the controller (port + 1 unless given)
#   KAFKA_SETTINGS         lines added to the broker's settings; the last of a name is in force
#   KAFKA_UNTIL_EOF        when set, the broker dies with whoever holds this script's standard input
#   KAFKA_JAVA_OPTS        options of the JVM instead of those below
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${1:-9092}
controller=${KAFKA_CONTROLLER_PORT:-$((port + 1))}
target=${CARGO_TARGET_DIR:-$here/../../target}/kafka
folder=${2:-$target/$port}

fail() { echo "broker.sh: $*" >&2; exit 1; }
command -v java >/dev/null || fail "there is no java; install a Java 17 runtime (Debian: default-jre-headless)"

# One download for everybody, however many start at once.
jars=$target/jars-$(cksum <"$here/pom.xml" | cut -d' ' -f1)
mkdir -p "$target" "$folder"
(
  flock 9
  if [ ! -d "$jars" ]; then
    command -v mvn >/dev/null || fail "there is no mvn; install Maven (Debian: maven)"
    rm -rf "$jars.part"
    mvn --batch-mode --quiet --file "$here/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$jars.part" >&2 || fail "Maven could not fetch Kafka"
    mv "$jars.part" "$jars"
  fi
) 9>"$target/lock"

cat >"$folder/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
log.dirs=$folder/log
# One broker is all there is to replicate to.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A small broker starts fast and leaves the memory to others.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
${KAFKA_SETTINGS:-}
END

options=(${KAFKA_JAVA_OPTS:--Xms64m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1})
java=(java "${options[@]}" -Djava.net.preferIPv4Stack=true
  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$jars/*")
if [ ! -f "$folder/log/meta.properties" ]; then
  "${java[@]}" kafka.tools.StorageTool format --cluster-id millraceAAAAAAAAAAAAAA \
    --config "$folder/server.properties" >"$folder/format.log" 2>&1 ||
    fail "cannot prepare $folder/log: $(tail -n 3 "$folder/format.log")"
fi

if [ -n "${KAFKA_UNTIL_EOF:-}" ]; then
  "${java[@]}" kafka.Kafka "$folder/server.properties" </dev/null >>"$folder/broker.log" 2>&1 &
  echo $! >"$folder/pid"
  cat >/dev/null || true
  kill -9 $! 2>/dev/null || true
  exit 0
fi

echo "Kafka on 127.0.0.1:$port, topics in $folder; Ctrl-C stops it" >&2
exec "${java[@]}" kafka.Kafka "$folder/server.properties"
