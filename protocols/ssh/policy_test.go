package ssh_test

// rules: deploy needs a dba, ops nobody; the others have narrow scopes.
const rules = `
rule "deploy" {
  target  = { name = "web-1" }
  role    = ["deploy"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  warnings = ["2s"]
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
rule "ops" {
  target  = { name = "web-1" }
  role    = ["ops", "keyed", "worded"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
rule "why" {
  target  = { name = "web-1" }
  role    = ["careful"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  reason  = "required"
}
rule "runner" {
  target  = { name = "web-1" }
  role    = ["runner"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  scope { channels = ["exec"] }
}
rule "copier" {
  target  = { name = "web-1" }
  role    = ["copier"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  scope { channels = ["sftp"] }
}
rule "tunnel" {
  target  = { name = "web-1" }
  role    = ["tunnel"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  scope {
    channels = ["forward"]
    forward  = ["%[1]s"]
  }
}
rule "listener" {
  target  = { name = "web-1" }
  role    = ["listener"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  scope {
    channels = ["listen"]
    listen   = ["%[2]s"]
  }
}
rule "lender" {
  target  = { name = "web-1" }
  role    = ["lender"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  scope { channels = ["exec", "agent", "x11"] }
}
rule "bulk" {
  target  = { name = "bulk" }
  role    = ["ops"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
rule "strange" {
  target  = { names = ["impostor", "certified", "misnamed", "kept"] }
  role    = ["ops"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
right "review" { who = { groups = ["security"] } }
right "cut"    { who = { groups = ["security"] } }
right "audit"  { who = { groups = ["security"] } }
`

const targets = `
target "web-1" {
  protocol = "ssh"
  address  = "%[1]s"
  options  {
    host_keys    = ["%[2]s"]
    record_input = true
  }
  role "deploy" { account = "%[3]s" }
  role "ops"    { account = "%[3]s" }
  role "runner" { account = "%[3]s" }
  role "careful" { account = "%[3]s" }
  role "copier" { account = "%[3]s" }
  role "tunnel" { account = "%[3]s" }
  role "listener" { account = "%[3]s" }
  role "lender" { account = "%[3]s" }
  role "keyed" {
    account    = "%[3]s"
    credential = "web-1-key"
  }
  role "worded" {
    account    = "%[3]s"
    credential = "web-1-password"
    options { login = "password" }
  }
}
target "bulk" {
  protocol = "ssh"
  address  = "%[1]s"
  options  {
    host_keys     = ["%[2]s"]
    record_output = "digest"
  }
  role "ops" { account = "%[3]s" }
}
target "kept" {
  protocol = "ssh"
  address  = "%[1]s"
  options {
    host_keys    = ["%[2]s"]
    record_files = "content"
  }
  role "ops" { account = "%[3]s" }
}
target "impostor" {
  protocol = "ssh"
  address  = "%[1]s"
  options  { host_keys = ["%[4]s"] }
  role "ops" { account = "%[3]s" }
}
target "certified" {
  protocol = "ssh"
  address  = "%[1]s"
  options {
    host_ca   = ["%[5]s"]
    host_name = "%[6]s"
  }
  role "ops" { account = "%[3]s" }
}
target "misnamed" {
  protocol = "ssh"
  address  = "%[1]s"
  options { host_ca = ["%[5]s"] }
  role "ops" { account = "%[3]s" }
}
`
