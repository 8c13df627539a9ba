// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"crypto"
	"strings"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/modsig"
)

// Signer returns the function that signs modules as the target's own are, for
// Request.Sign. texts hold the key, and the certificate if it stands apart.
func Signer(t *kernel.Target, texts ...[]byte) (func([]byte) ([]byte, error), error) {
	key, err := modsig.ParseKey(texts...)
	if err != nil {
		return nil, err
	}
	opts := modsig.Options{Hash: crypto.SHA256}
	switch strings.Trim(t.Config()["CONFIG_MODULE_SIG_HASH"], `"`) {
	case "sha384":
		opts.Hash = crypto.SHA384
	case "sha512":
		opts.Hash = crypto.SHA512
	}
	return func(ko []byte) ([]byte, error) { return key.Sign(ko, opts) }, nil
}
