// SPDX-License-Identifier: Apache-2.0

package userland

// Symbol is one function or object of a shipped file.
type Symbol struct {
	Name  string
	File  string // STT_FILE before it, "" for global ones and where none is known
	Addr  uint64
	Size  uint64 // 0 where the source of symbols does not tell
	Func  bool
	Local bool
	TLS   bool
	IFunc bool
}
