#!/usr/bin/env bash
# Makes the seeds that are real bytes of PostgreSQL: pg_control and WAL of every major that
# `make tools` has installed. Run it as root (servers run as `postgres`); what is there is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(scripts/tools.sh --where)
# How much of a segment is kept, in bytes: enough for the statements below.
readonly KEEP=24576

make_major() {
  local major=$1 bin=$2 data segment
  data=$(mktemp -d /tmp/rollforward-seeds.XXXXXX)
  chown postgres "$data"
  as_postgres() { (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$@"); }
  as_postgres "$bin/initdb" -D "$data/pg" -k --wal-segsize=1 --no-sync -A trust >/dev/null
  printf 'wal_level = logical\nfull_page_writes = off\n' >>"$data/pg/postgresql.conf"
  as_postgres "$bin/postgres" --single -D "$data/pg" postgres >"$data/out" 2>"$data/log" <<'SQL'
create table orders (id int primary key, note text);
checkpoint;
select pg_switch_wal();
insert into orders select n, 'order ' || n from generate_series(1, 60) n;
update orders set note = 'paid' where id < 20;
delete from orders where id > 40;
truncate orders;
create sequence numbers;
create table gone (a int);
drop table gone;
select pg_create_restore_point('before');
insert into orders values (1, 'x');
select pg_walfile_name(pg_current_wal_insert_lsn());
SQL
  # `1: pg_walfile_name = "…"`: the segment that the switch began.
  segment=$data/pg/pg_wal/$(sed -n 's/.*pg_walfile_name = "\([0-9A-F]*\)".*/\1/p' "$data/out")
  mkdir -p fuzz/testdata/pg_control fuzz/testdata/pg_wal
  [ -e "fuzz/testdata/pg_control/$major" ] || cp "$data/pg/global/pg_control" "fuzz/testdata/pg_control/$major"
  [ -e "fuzz/testdata/pg_wal/$major" ] || head -c "$KEEP" "$segment" >"fuzz/testdata/pg_wal/$major"
  rm -rf "$data"
}

for major in 14 15 16 17 18; do
  for bin in "$tools/pg/$major/bin" "/usr/lib/postgresql/$major/bin"; do
    [ -x "$bin/initdb" ] && make_major "$major" "$bin" && break
  done
done
