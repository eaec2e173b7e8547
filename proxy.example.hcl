# proxy.hcl: what belongs to this machine. Check it with: sallyport check --config FILE
# Paths are absolute, or relative to this file's folder. Unknown keys are errors.
# Targets, their addresses, roles and the identity provider are not here: they are in the
# signed policy bundle, because whoever could change them would own the policy.

gate {
  # Where people's browsers reach the web listener. Links that held clients show begin with it.
  url = "https://gate.example.com"

  # This machine's name in every entry of the log. Default: the host's name.
  node = "gate-1"

  # What pages call this gate. Default: the URL's host.
  name = "Example gate"

  # The CA file that clients verify this gate with, for the connection strings that pages
  # show. Default: none, for a certificate that everybody's system trusts.
  # ca = "/etc/ssl/certs/example-ca.pem"
}

# Pages and API for people. The certificate must be good for the name in gate.url.
listen "web" ":443" {
  tls {
    certificate = "/etc/sallyport/tls/gate.crt"
    key         = "/etc/sallyport/tls/gate.key" # mode 0600
  }

  # Behind nginx or HAProxy: whose X-Forwarded-For is believed. Default: nobody's, because
  # what clients could write of themselves would be shown to approvers and recorded.
  # options {
  #   trusted_proxies = ["10.1.2.0/28"]
  #   proxy_protocol  = false # true: they pass TLS on, with a PROXY header of version 2
  # }
}

# PostgreSQL clients: psql "host=gate.example.com user=ROLE dbname=TARGET sslmode=verify-full"
listen "postgres" ":5432" {
  tls {
    certificate = "/etc/sallyport/tls/gate.crt"
    key         = "/etc/sallyport/tls/gate.key"
  }

  # Clients without TLS are refused. With true they are let in, are never asked for a
  # password, and all that they say can be read and changed on the way.
  plaintext = false

  # What clients are told to connect to. Default: the URL's host and this port.
  # advertise = "gate.example.com:5432"
}

# SSH clients: ssh ROLE@TARGET@gate.example.com. SSH brings its own encryption, so no tls
# here. The three keys are three: make each with ssh-keygen -t ed25519 -N '' -f FILE.
# listen "ssh" ":22" {
#   options {
#     host_keys  = ["/etc/sallyport/ssh/host"]     # the gate's own
#     host_ca    = "/etc/sallyport/ssh/host-ca"    # certifies them; clients' known_hosts names it
#     session_ca = "/etc/sallyport/ssh/session-ca" # targets name it in TrustedUserCAKeys
#     names      = ["gate.example.com"]            # default: the URL's host
#   }
# }

# Requests, grants and sessions: one SQLite file on a local disk.
store {
  path = "/var/lib/sallyport/gate.db"
}

# The tamper-evident log. Verify it at any time with: sallyport audit verify --config FILE
audit {
  dir = "/var/lib/sallyport/audit"

  # The log's name in its checkpoints; it never changes. Default: the URL's host.
  origin = "gate.example.com"

  # Also write entries as JSON lines for a collector: "stdout" or "file:/path".
  # They hold names and reasons. Default: none.
  # mirror = "stdout"
}

# What happened in sessions. A session that cannot be recorded ends, so leave room.
recordings {
  dir = "/var/lib/sallyport/recordings"
}

# The signed bundle. The pin says who may sign: without it, whoever can write to
# the folder would make the rules. Print it with: sha256sum DIR/trust/root.1
policy {
  dir  = "/etc/sallyport/policy"
  root = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

  # The lowest version that is accepted; keeps an old, validly signed policy off a new machine.
  min_version = 1

  # Fetch the bundle from there, a gzipped tar as git hosts make one of a branch. Its way here
  # is not trusted: what is taken is what enough people signed. dir is then the gate's own copy.
  # archive {
  #   url        = "https://git.example.com/policy/archive/main.tar.gz"
  #   every      = "5m"                    # SIGHUP asks at once
  #   ca         = "/etc/ssl/certs/git.pem" # default: the system's
  #   credential = "policy-archive"        # sent as a bearer; default: none
  # }
}

# Signs the short-lived client certificates of `sallyport login`. No target may trust it.
login_ca {
  certificate = "/etc/sallyport/login-ca.crt"
  key         = "/etc/sallyport/login-ca.key" # mode 0600

  # The key that signs the same for SSH, mode 0600; it is none of the listener's. Default:
  # none, and people prove themselves by the browser.
  ssh_key = "/etc/sallyport/login-ca-ssh.key"
}

# 32 random bytes that seal refresh tokens in the store. Mode 0600.
seal_key = "/etc/sallyport/seal.key"

# Where this machine keeps the secrets that the policy names. They are read for every new
# session, so a rotated secret is used at once:
#   env:NAME | file:/path (mode 0600) | exec:/path/to/program arguments (no shell)
credential "oidc-client" {
  from = "file:/etc/sallyport/credentials/oidc-client"
}
credential "orders-reader" {
  from = "file:/etc/sallyport/credentials/orders-reader"
}
credential "orders-writer" {
  from = "exec:/usr/bin/pass show orders-writer"
}

# Those who can decide a request are told at once, and the requester how it ended, with a
# link that decides nothing. Default: nobody is told; people see it on the pages.
# Secrets are names of credential blocks. The key of a webhook is "whsec_" and the base64 of
# 32 random bytes; docs/notify.md says how a receiver checks the signature.
# notify {
#   webhook "alerts" {
#     url    = "https://hooks.example.com/sallyport"
#     secret = "alerts-webhook"
#   }
#   mail {
#     host     = "smtp.example.com" # port 587 with STARTTLS
#     from     = "Gate <gate@example.com>"
#     user     = "gate"
#     password = "mail"
#   }
# }

# Caps and patience. These are the defaults; "none" cannot be said.
limits {
  connections            = 32000 # open at once
  connections_per_source = 8000  # from one address (IPv6: one /64)
  held                   = 10000 # waiting for a sign-in: strangers can cause these
  held_per_source        = 100
  handshake              = "20s" # a silent client keeps a connection no longer
  sign_in                = "5m"  # a link that lives longer can be sent to somebody else at leisure
  grace                  = "30s" # live sessions may finish after the gate was told to stop
}
