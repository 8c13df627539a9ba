// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// First is the text of a new server's file: what was given, and the rest as
// comments that show what there is.
func First(given map[string]string, names []string) []byte {
	var b strings.Builder
	line := func(key, comment, value string) {
		if v, ok := given[key]; ok {
			fmt.Fprintf(&b, "%s: %q\n", key, v)
		} else {
			fmt.Fprintf(&b, "#%s: %s\n", key, value)
		}
		fmt.Fprintf(&b, "# ^ %s\n\n", comment)
	}
	b.WriteString("# tsugi-server: docs/server.md explains every key. Paths are relative to this\n# directory. A key that does not exist is an error.\n\n")
	line("url", "how machines and operators reach the service", "https://HOST:8443")
	line("listen", "address of this process; the port of the URL on all addresses if it is left out", `":8443"`)
	line("database", "or postgres://tsugi@db.example.org/tsugi", "sqlite:tsugi.db")
	b.WriteString("tls:\n  # own: a certificate authority of this service, in ca/; files: cert and key\n  # below; acme: an authority such as Let's Encrypt; off: a balancer ends TLS\n  mode: own\n")
	if len(names) > 0 {
		b.WriteString("  # further names and addresses in the certificate\n  names:\n")
		for _, n := range names {
			fmt.Fprintf(&b, "    - %q\n", n)
		}
	}
	b.WriteString("\n#storage:\n#  kind: s3\n#  s3:\n#    endpoint: https://s3.example.org\n#    bucket: tsugi\n\n#workers:\n#  count: 1 # builds at a time in this process; 0 leaves them to tsugi-server worker\n")
	return []byte(b.String())
}
