// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"crypto/tls"
)

// Config is the configuration of a server around a source of certificates.
// min is "1.2" or "1.3". The cipher suites of TLS 1.2 are those of Go without
// the ones that lack forward secrecy or authenticated encryption.
func Config(get func(*tls.ClientHelloInfo) (*tls.Certificate, error), min string) *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: get,
		NextProtos:     []string{"h2", "http/1.1"},
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	if min == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	return c
}
