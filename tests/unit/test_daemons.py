"""Which commands leave the foreground: by their words, by the program's own conf, or "unless" that says otherwise."""

from __future__ import annotations

import pytest

from ha_agent.core.daemons import DAEMONS, Departure, find_daemon


def find(command: str, **files: str) -> Departure | None:
    """With files by their path, in which "_" stands for "/"."""
    return find_daemon(command, {name.replace("_", "/"): text for name, text in files.items()}.get)


LEAVE = [
    "service nginx start",
    "/usr/sbin/service x restart",
    "systemctl start x",
    "/etc/init.d/x start",
    "start-stop-daemon --start --background --exec /x",
    "/usr/bin/mysqld_safe --user=mysql",
    "apachectl start",
    "/usr/sbin/apache2 -k start",
    "/opt/tomcat/bin/catalina.sh start",
    "/opt/tomcat/bin/startup.sh",
    "zkServer.sh start",
    "kafka-server-start.sh -daemon x",
    "redis-server --daemonize yes",
    "mongod --fork --logpath /x",
    "lighttpd -f x",
    "/usr/sbin/sshd",
    "cron",
    "memcached -m 64 -d",
    "gunicorn app --daemon",
    "/venv/bin/python -m gunicorn app --daemon",
    "celery -A x worker --detach",
    "python3 /venv/bin/celery multi start w",
    "pg_ctl -D x start",
    "supervisord -c x",
    "exim -bd -q30m",
    "/usr/sbin/exim4 -bd",
    "syslog-ng -p /run/x.pid",
    "searchd --config /etc/sphinx.conf",
    "postfix start",
    "setsid java -jar x.jar",
    "/bin/bash -c 'exec java -jar x.jar &'",
    "bash -c 'service cron start && exec java -jar x.jar'",
    "sudo -u x lighttpd -f x",
]

STAY = [
    "/usr/sbin/nginx -g 'daemon off;'",
    "nginx -t",
    "php-fpm -F",
    "mysqld --user=mysql",
    "apachectl -D FOREGROUND",
    "apache2 -DFOREGROUND",
    "catalina.sh run",
    "zkServer.sh start-foreground",
    "redis-server --daemonize no",
    "redis-server /etc/redis.conf",
    "mongod -f /etc/mongo.conf",
    "haproxy -f /etc/haproxy.cfg -db",
    "lighttpd -D -f x",
    "/usr/sbin/sshd -D",
    "cron -f",
    "memcached -m 64",
    "supervisord -n",
    "exim -bdf -q30m",
    "syslog-ng -F",
    "searchd --nodetach",
    "java -jar x.jar",
    "nohup java -jar x.jar",
    "/bin/bash -c 'exec a 2>&1'",
    "my-service start",
    "/opt/nginx-exporter --port 9113",
    "tail -f /var/log/nginx",
    "chown www /etc/nginx",
    "python3 -m http.server && true",
    "bash -c 'nginx -t && exec nginx -g \"daemon off;\"'",
]


@pytest.mark.parametrize("command", LEAVE)
def test_a_command_that_leaves_the_foreground_is_found_with_its_fix(command: str) -> None:
    found = find(command)
    assert found is not None and found.fix and not found.unless


@pytest.mark.parametrize("command", STAY)
def test_a_command_that_stays_is_not(command: str) -> None:
    assert find(command) is None


@pytest.mark.parametrize(
    ("command", "conf", "stays", "leaves"),
    [
        ("nginx", "_etc_nginx_nginx.conf", "worker_processes 2;\ndaemon off;\n", "daemon on;\n"),
        ("sudo nginx -c /srv/n.conf", "_srv_n.conf", "  daemon   off ;", "# daemon off;\n"),
        ("php-fpm8.2", "_etc_php_8.2_fpm_php-fpm.conf", "[global]\ndaemonize = no\n", "[global]\n;daemonize = no\n"),
        ("php-fpm -y /srv/p.conf", "_srv_p.conf", "daemonize=no", "daemonize = yes"),
        ("php-fpm --fpm-config /srv/p.conf", "_srv_p.conf", "daemonize='no'", ""),
        ("redis-server /srv/r.conf", "_srv_r.conf", "port 1\n", "daemonize yes\n"),
        ("redis-server /etc/redis/redis.conf", "_etc_redis_redis.conf", "daemonize no\n", "daemonize yes\n"),
        (
            "mongod -f /srv/m.conf",
            "_srv_m.conf",
            "processManagement:\n  fork: false\n",
            "processManagement:\n  fork: true\n",
        ),
        ("mongod --config=/srv/m.conf", "_srv_m.conf", "port = 1\n", "fork = true\n"),
        ("haproxy -f /srv/h.cfg", "_srv_h.cfg", "global\n  maxconn 1\n", "global\n    daemon\n"),
        ("uwsgi --ini /srv/u.ini", "_srv_u.ini", "[uwsgi]\n", "[uwsgi]\ndaemonize = /x.log\n"),
        ("gunicorn -c /srv/g.py app", "_srv_g.py", "workers = 2\n", "daemon = True\n"),
        ("stunnel /srv/s.conf", "_srv_s.conf", "foreground = yes\n", "pid = /x\n"),
    ],
)
def test_the_programs_own_conf_decides_where_it_can_be_read(command: str, conf: str, stays: str, leaves: str) -> None:
    assert find(command, **{conf: stays}) is None
    found = find(command, **{conf: leaves})
    assert found is not None and not found.unless and found.fix


@pytest.mark.parametrize(
    ("command", "unless"),
    [
        ("/usr/sbin/nginx", "unless /etc/nginx/nginx.conf says 'daemon off;'"),
        ("nginx -c /srv/n.conf", "unless /srv/n.conf says 'daemon off;'"),
        ("nginx -c %(here)s/n.conf", "unless %(here)s/n.conf says 'daemon off;'"),
        ("php-fpm8.2", "unless /etc/php/8.2/fpm/php-fpm.conf says 'daemonize = no'"),
        ("php-fpm", "unless /etc/php-fpm.conf says 'daemonize = no'"),
        ("redis-server /etc/redis/redis.conf", "unless /etc/redis/redis.conf says 'daemonize no'"),
        ("mongod -f /etc/mongod.conf", "unless /etc/mongod.conf says 'fork: false'"),
        ("haproxy -f /etc/haproxy/haproxy.cfg", "unless /etc/haproxy/haproxy.cfg does not say 'daemon'"),
        ("stunnel", "unless /etc/stunnel/stunnel.conf says 'foreground = yes'"),
    ],
)
def test_a_conf_that_cannot_be_read_makes_it_unless(command: str, unless: str) -> None:
    found = find(command)
    assert found is not None and found.unless == unless


def test_what_a_conf_includes_may_say_it_too() -> None:
    found = find("php-fpm8.2", **{"_etc_php_8.2_fpm_php-fpm.conf": "[global]\ninclude=/etc/php/8.2/fpm/pool.d/*.conf\n"})
    assert found is not None and found.unless == "unless what /etc/php/8.2/fpm/php-fpm.conf includes says 'daemonize = no'"


def test_nginx_is_told_to_say_it_once() -> None:
    """With "daemon off;" both in its conf and by -g nginx does not start: "daemon" directive is duplicate."""
    found = find("nginx -c /srv/n.conf")
    assert found is not None
    assert found.fix == "write 'daemon off;' into /srv/n.conf, or add -g 'daemon off;', not both: nginx refuses it twice"


def test_the_program_is_named_and_not_what_stands_before_it() -> None:
    found = [
        find(command) for command in ("sudo -u x /usr/sbin/nginx", "bash -c 'cd /x && nginx'", "env A=1 service x start")
    ]
    assert [departure.name for departure in found if departure] == ["nginx", "nginx", "service"]


def test_what_is_certain_comes_before_what_is_not() -> None:
    found = find("bash -c 'php-fpm8.2; service x start'")
    assert found is not None and found.name == "service"


def test_every_row_has_a_fix_that_names_its_conf_if_any() -> None:
    assert all(row.fix and ("{conf}" not in row.fix or row.conf) for row in DAEMONS)
