"""gunicorn behind r2shim: what matters to the proxy; the rest is the site's."""
# Django's own module here.
wsgi_app = "mysite.wsgi:application"
bind = "127.0.0.1:8000"

# A worker class that keeps connections open; "sync" closes each after one request, which works and costs a connect.
worker_class = "gthread"
workers = 4
threads = 8

# Longer than upstream.idle-timeout (4s): gunicorn is never the first to close an idle connection.
keepalive = 75
# upstream.timeout is 60s: an upload that takes longer needs both raised.
timeout = 60
# A stop lets running uploads end.
graceful_timeout = 30

# The proxy replaces X-Forwarded-* by what it knows; believe it.
forwarded_allow_ips = "127.0.0.1"

# gunicorn 20.1 closes the connection after an empty file that it sent by sendfile.
sendfile = False
