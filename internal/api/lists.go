// SPDX-License-Identifier: Apache-2.0

package api

// MaxPage is the most that one page of a list holds.
const MaxPage = 1000

// StoredReport is a report with the machine that it came from.
type StoredReport struct {
	Machine  string `json:"machine"`
	Received int64  `json:"received"`
	Report   Report `json:"report"`
}

// Whoami is whose credential a request carried, and which server answered.
type Whoami struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	Server  string `json:"server"`  // its URL, as machines are told it
	Version string `json:"version"` // of the program
	// May are the permissions, each with the groups of machines that it is for;
	// none named is the whole fleet.
	May map[string][]string `json:"may"`
}
