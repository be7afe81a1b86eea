"""How the sample site is run; the address is given on the command line (--bind)."""
wsgi_app = "demosite.wsgi:application"
worker_class = "gthread"
# Few processes, so that SQLite's one writer at a time is no queue of processes that poll for its lock.
workers = 2
threads = 8
# Longer than the proxy keeps an idle connection: gunicorn is never the first to close.
keepalive = 75
graceful_timeout = 5
# gunicorn 20.1 breaks the connection after an empty file sent by sendfile.
sendfile = False
