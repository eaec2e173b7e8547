// Package protocols lists the wire protocols that are built in.
package protocols

import (
	"github.com/sallyport/sallyport/protocols/http"
	"github.com/sallyport/sallyport/protocols/postgres"
	"github.com/sallyport/sallyport/protocols/ssh"
	"github.com/sallyport/sallyport/proxy"
)

// All returns the protocols that a listener can speak. Adding one is a folder and a
// line here.
func All() []proxy.Protocol {
	return []proxy.Protocol{
		postgres.Protocol{},
		http.Protocol{},
		ssh.Protocol{},
	}
}
