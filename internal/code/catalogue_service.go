// SPDX-License-Identifier: Apache-2.0

package code

// TS75xx jobs and workers; TS78xx setting up and running a server.
func service() []Entry {
	return []Entry{
		// TS78xx: setting up and running a server
		{"TS7801", KindError, "the configuration cannot be read", "check the file, its permissions and its YAML; tsugi-server config shows what is in force"},
		{"TS7802", KindError, "the configuration has an unknown key", "correct or remove it; docs/server.md lists all keys"},
		{"TS7803", KindError, "a value of the configuration cannot be used", "correct it in the file, the environment or the flag that it comes from"},
		{"TS7804", KindError, "this directory is no server's", "make one with tsugi-server init, or name the right one with --dir"},
		{"TS7805", KindError, "this directory holds a server already", "use another directory; tsugi-server init never changes an existing server"},
		{"TS7806", KindError, "the certificate and its key cannot be used", "give the PEM chain, leaf first, and the private key that belongs to it"},
		{"TS7807", KindError, "the address cannot be listened on", "choose another with listen, end the program that holds it, or allow low ports (CAP_NET_BIND_SERVICE)"},
		{"TS7811", KindError, "no certificate came from the ACME authority", "the name must lead to this server from where the authority is; look at the log for its answer"},
	}
}
