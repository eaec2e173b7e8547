// Package sftp follows an SFTP conversation from between its two sides, and tells a
// Record what it does: every file that is moved, and everything that changes a name or
// an attribute. It sends nothing and changes nothing.
//
// What it tells is what happens, because nothing that it cannot follow goes on:
//
//   - A request is known by its id until it is answered. An id that is still in use is
//     refused, and so is an answer to nothing or of another kind than was asked for.
//   - A handle is known from the answer that gives it to the answer of its CLOSE. A
//     handle that nobody gave, however well it is guessed, is refused, and so is
//     whatever follows a CLOSE.
//   - A file is told when its CLOSE and everything else that was asked of it have been
//     answered, or when the conversation is over.
//
// Looking around (stat, readdir, realpath) is followed and not told. Versions other
// than 3 (draft-ietf-secsh-filexfer-02) are refused: they mean other things by the same
// types, and no server in use answers with them. Of the extensions OpenSSH's are known
// (its PROTOCOL, section 4); of others the name and the first bytes are told.
package sftp
