// Package record is what the signed policy asks to be recorded of web traffic beside
// its request lines: headers, bodies and websocket messages, without the values of what
// it names as secret.
//
// What is to be recorded is recorded, or does not pass: a body in an encoding that is
// not read here, or that is not of the form that it says it has, is refused, because a
// target might read it all the same. Of a long body the beginning is kept, and size and
// SHA-256 of all of it.
//
// Secrets are found by name: fields of JSON, of forms and of multipart forms, parameters
// of the query, headers. In other texts nothing is looked for. gRPC's messages are not
// recorded.
package record
