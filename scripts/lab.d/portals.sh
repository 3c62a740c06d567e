# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The portals: a real Apache httpd with PHP and a real MariaDB in each, as Debian ships them, with their own
# configuration and data. httpd runs the event MPM and PHP runs in php-fpm: a thousand open connections are then a
# thousand threads at most, where prefork with mod_php would be a thousand processes.

readonly CHECK_USER=portico CHECK_PASSWORD=portico-check # may log in, and nothing else: for health checks
readonly APP_USER=portal APP_PASSWORD=portal             # reads and writes the portal's tables

portal_dir() { echo "$STATE/$1"; }

# What is the same for all labs, made once per machine: a certificate, the big file, an initialised database.
make_cache() {
  mkdir -p "$CACHE" "$STATE_ROOT"
  chmod 755 "$CACHE" "$STATE_ROOT"
  (
    flock 9
    [ -e "$CACHE/tls/cert.pem" ] || make_certificate
    [ -e "$CACHE/files/big.bin" ] || make_files
    [ -e "$CACHE/mariadb-1/ready" ] || make_database
  ) 9>"$CACHE/lock"
}

make_certificate() {
  say "making a certificate"
  mkdir -p "$CACHE/tls.new"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=portal.example \
    -addext "subjectAltName=DNS:portal.example,IP:$VIP_V4,IP:$VIP_V6" \
    -keyout "$CACHE/tls.new/key.pem" -out "$CACHE/tls.new/cert.pem" 2>/dev/null
  mv "$CACHE/tls.new" "$CACHE/tls"
}

# 100 MiB that do not compress and are the same on every machine: zeros under AES in counter mode.
make_files() {
  say "making big.bin (100 MiB)"
  mkdir -p "$CACHE/files.new"
  head -c $((100 << 20)) /dev/zero |
    openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 00000000000000000000000000000000 \
      >"$CACHE/files.new/big.bin"
  (cd "$CACHE/files.new" && sha256sum big.bin >big.bin.sha256)
  chmod -R a+rX "$CACHE/files.new"
  mv "$CACHE/files.new" "$CACHE/files"
}

# The folder's name carries a number: raise it when what make_database does changes.
make_database() {
  local new=$CACHE/mariadb.new
  say "initialising a database (once per machine)"
  rm -rf "$new"
  mkdir -p "$new"
  mariadb-install-db --no-defaults --datadir="$new/data" --skip-test-db --innodb-log-file-size=8M >"$new/log" 2>&1 ||
    die "mariadb-install-db failed, see $new/log"
  mariadbd --no-defaults --user=root --datadir="$new/data" --innodb-log-file-size=8M --bootstrap >>"$new/log" 2>&1 <<SQL ||
FLUSH PRIVILEGES;
DELETE FROM mysql.global_priv WHERE User = '';
CREATE DATABASE portal;
CREATE TABLE portal.instance (id INT PRIMARY KEY, name VARCHAR(64) NOT NULL);
CREATE USER '$CHECK_USER'@'%' IDENTIFIED BY '$CHECK_PASSWORD';
CREATE USER '$APP_USER'@'%' IDENTIFIED BY '$APP_PASSWORD';
GRANT SELECT, INSERT, UPDATE, DELETE ON portal.* TO '$APP_USER'@'%';
SQL
    die "setting up the database failed, see $new/log"
  touch "$new/ready"
  mv "$new" "$CACHE/mariadb-1"
}

# The portal's own folder. Its row in the database and its pages carry its name.
make_portal_files() { # PORTAL
  local dir
  dir=$(portal_dir "$1")
  mkdir -p "$dir/httpd" "$dir/mariadb/tmp"
  cp -r "$LAB_D/www" "$dir/www"
  cp -r "$CACHE/mariadb-1/data" "$dir/mariadb/data"
  echo "REPLACE INTO portal.instance VALUES (1, '$1');" >"$dir/mariadb/init.sql"
  chown -R mysql:mysql "$dir/mariadb"
  chmod -R a+rX "$dir/www"
}

run_in_portal() { # PORTAL COMMAND...
  local portal=$1
  shift
  LAB_HOST=$portal LAB_DIR=$(portal_dir "$portal") LAB_CACHE=$CACHE in_host "$portal" "$@"
}

port_answers() { in_host "$1" bash -c "exec 3<>/dev/tcp/127.0.0.1/$2" 2>/dev/null; }
port_refuses() { ! port_answers "$@"; }

pid_runs() { # PIDFILE
  local pid
  pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

php_fpm() { # Debian names the program after PHP's version
  local found
  found=$(compgen -G '/usr/sbin/php-fpm[0-9]*' | sort -V | tail -n 1)
  [ -n "$found" ] || die "php-fpm is not installed: scripts/setup"
  echo "$found"
}

start_apache() {
  local dir
  local -a options=()
  if [ "$PROXY_PROTOCOL" != none ]; then options=(-D PROXY_PROTOCOL); fi
  dir=$(portal_dir "$1")
  if ! pid_runs "$dir/fpm.pid"; then
    run_in_portal "$1" "$(php_fpm)" --fpm-config "$LAB_D/php-fpm.conf" -c "$LAB_D/php.ini" 9>&-
  fi
  if ! pid_runs "$dir/httpd.pid"; then run_in_portal "$1" apache2 -d "$dir/httpd" -f "$LAB_D/httpd.conf" "${options[@]}" -k start; fi
  wait_until 10000 port_answers "$1" 80 || die "$1: Apache does not answer, see $dir/httpd/error.log"
}

database_answers() {
  in_host "$1" mariadb --no-defaults -h127.0.0.1 -u"$CHECK_USER" -p"$CHECK_PASSWORD" -e 'SELECT 1' >/dev/null 2>&1
}

# Small buffers: a portal's database holds one row here, and the lab should fit a laptop.
start_mariadb() {
  local dir
  local -a options=()
  dir=$(portal_dir "$1")/mariadb
  if [ "$PROXY_PROTOCOL" != none ]; then options=(--proxy-protocol-networks="$BACK_NET_V4,$BACK_NET_V6"); fi
  if ! pid_runs "$dir/pid"; then
    rm -f "$dir/pid"
    in_host "$1" setsid mariadbd --no-defaults --user=mysql --datadir="$dir/data" --tmpdir="$dir/tmp" \
      --socket="$dir/sock" --pid-file="$dir/pid" --log-error="$dir/error.log" --init-file="$dir/init.sql" \
      --port=3306 --bind-address='*' --max-connections=1200 --innodb-buffer-pool-size=16M \
      --innodb-log-file-size=8M --key-buffer-size=1M --aria-pagecache-buffer-size=4M --performance-schema=OFF "${options[@]}" \
      </dev/null >/dev/null 2>&1 &
  fi
  wait_until 20000 database_answers "$1" || die "$1: MariaDB does not answer, see $dir/error.log"
}

pidfile_of() { # PORTAL SERVER
  case $2 in
    apache) echo "$(portal_dir "$1")/httpd.pid" ;;
    mariadb) echo "$(portal_dir "$1")/mariadb/pid" ;;
    *) die "no server '$2': apache or mariadb" ;;
  esac
}

port_of() { if [ "$1" = apache ]; then echo 80; else echo 3306; fi; }

start_server() { # PORTAL SERVER
  local pidfile
  pidfile=$(pidfile_of "$@")
  # One that was told to stop may still be finishing; its successor must not meet it.
  if pid_runs "$pidfile" && port_refuses "$1" "$(port_of "$2")"; then
    wait_until 10000 pid_gone "$pidfile" || kill_tree "$(cat "$pidfile")"
  fi
  "start_$2" "$1"
}

pid_gone() { ! pid_runs "$1"; }

kill_tree() {
  # shellcheck disable=SC2046  # one word per process
  kill -KILL "$1" $(pgrep -P "$1") 2>/dev/null || true
}

# Ends a server as Debian's unit for it does (Apache: graceful-stop), or with SIGKILL. Returns when its port refuses.
stop_server() { # PORTAL SERVER [KILL]
  local pidfile pid
  pidfile=$(pidfile_of "$@")
  if pid_runs "$pidfile"; then
    pid=$(cat "$pidfile")
    case ${3:-}$2 in
      KILL*) kill_tree "$pid"; rm -f "$pidfile" ;;
      apache) kill -WINCH "$pid" ;;
      mariadb) kill -TERM "$pid" ;;
    esac
  fi
  wait_until 30000 port_refuses "$1" "$(port_of "$2")" || die "$1: $2 still answers 30 s after it was told to stop"
}

need_portal() {
  if ! [[ $1 =~ ^portal-[0-9]+$ ]] || ! host_exists "$1"; then
    die "no portal '$1' in lab $NAME (portal-1..portal-$PORTALS)"
  fi
}
