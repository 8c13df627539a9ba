// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/strict"
)

const (
	machineName  = "machine.json"
	identityName = "identity"
	maxMachine   = 1 << 20
)

// Machine is this machine's enrolment, in machine.json.
type Machine struct {
	Schema     int        `json:"schema"`
	ID         string     `json:"id"`
	Server     string     `json:"server"` // https://host:8443
	Credential Credential `json:"credential"`
	Tier       string     `json:"tier"` // at enrolment; the server may move it
	Group      string     `json:"group,omitempty"`
	CA         string     `json:"ca,omitempty"` // PEM; "" means the system's
	Root       string     `json:"root"`         // SHA-256 of the first root of trust
	// MachineID is that of the host that enrolled. A copy of this file on
	// another host is found out by it.
	MachineID string `json:"machine_id"`
	Enrolled  int64  `json:"enrolled"`
}

// Credential is a secret that never shows in logs.
type Credential string

// LogValue hides the secret.
func (Credential) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// ParseMachine reads machine.json.
func ParseMachine(b []byte) (*Machine, error) {
	if len(b) > maxMachine {
		return nil, code.New("TS9404", machineName, fmt.Sprintf("%d bytes", len(b)))
	}
	var m Machine
	if err := strict.JSON(b, &m); err != nil {
		return nil, code.New("TS9404", machineName, "").With(err)
	}
	switch {
	case m.Schema != 1:
		return nil, code.New("TS9404", machineName, fmt.Sprintf("schema %d, this program knows 1", m.Schema))
	case m.ID == "" || m.Credential == "":
		return nil, code.New("TS9404", machineName, "no id or no credential")
	}
	if _, err := ServerURL(m.Server); err != nil {
		return nil, code.New("TS9404", machineName, "").With(err)
	}
	return &m, nil
}

// readMachine returns nil without an error when the machine is not enrolled.
func readMachine(d Disk) (*Machine, error) {
	b, err := d.ReadFile(machineName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskProblem(machineName, err)
	}
	return ParseMachine(b)
}

// ServerURL checks the URL of a server and returns it without a slash at its
// end.
func ServerURL(s string) (string, error) {
	u, err := url.Parse(s)
	// Without TLS the credential would be anyone's who listens: only on this
	// very host is there nobody.
	if err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return "", code.New("TS9405", "", fmt.Sprintf("%q is not encrypted", s))
	}
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", code.New("TS9405", "", fmt.Sprintf("%q is not the URL of a server, such as https://tsugi.example:8443", s))
	}
	return strings.TrimSuffix(s, "/"), nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Enrollment is what enrolling needs: where to, and what to trust there.
type Enrollment struct {
	Server string
	Token  Credential
	// CADigest and RootDigest are SHA-256 in hex of the server's CA certificate
	// and of the first root of trust. CA and Root are the files themselves, for
	// those who bring them. Without CA and CADigest the system's certificates
	// vouch for the server.
	CADigest, RootDigest string
	CA, Root             []byte
	// Fresh: this machine is not enrolled, so that what it trusted before does
	// not count.
	Fresh bool
}

// ParseEnrollment reads the one word that tsugictl token new prints.
func ParseEnrollment(s string) (Enrollment, error) {
	v, err := api.ParseEnrollment(s)
	if err != nil {
		return Enrollment{}, err
	}
	server, err := ServerURL(v.URL)
	return Enrollment{Server: server, Token: Credential(v.Token), CADigest: v.CA, RootDigest: v.Root}, err
}

func isDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}
