// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// certificateTime tells a certificate that is refused because of the time:
// either it has run out, or this machine's clock is wrong. No trusted server
// can be asked which, so both are said.
func certificateTime(err error, now time.Time) (error, bool) {
	inv, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok || inv.Reason != x509.Expired || inv.Cert == nil {
		return nil, false
	}
	return code.New("TS9411", "", fmt.Sprintf("the server's certificate is valid from %s to %s, and this machine says that it is %s",
		inv.Cert.NotBefore.UTC().Format(time.DateOnly), inv.Cert.NotAfter.UTC().Format(time.DateOnly), now.UTC().Format(time.DateTime))), true
}
