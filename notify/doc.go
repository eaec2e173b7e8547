// Package notify carries the gate's notices out to people: by signed webhook and by mail.
//
// What it promises:
//
//   - The gate never waits for a receiver. Notify puts a notice into a bounded queue for
//     each sink; one goroutine for each sink delivers, five tries in about ten minutes.
//   - Nothing is lost in silence: what was not delivered, or found its queue full, is
//     handed to the function that New was given.
//   - A receiver can tell a notice from a forged one: webhooks are signed as Standard
//     Webhooks 1.0 says, over TLS.
//   - What a requester wrote stays text. It cannot become a header, a second
//     recipient or a second line of one.
//   - Nothing in a notice decides. Its link shows a page that asks for a sign-in.
//   - No secret, and no webhook's address, is in an error.
package notify
