// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/order"
)

// Key is a key that the kernel verifies module signatures with.
type Key struct {
	Serial  int32  `json:"serial"`
	Keyring string `json:"keyring"`
	// Name is the certificate's subject as the kernel shortens it, ID its
	// subject key identifier (or serial number, when it has none), hex.
	Name string `json:"name"`
	ID   string `json:"id,omitempty"`
}

// keyrings that modules are verified with. The machine keyring is linked into
// the secondary one, and the platform one is asked by distributions' kernels.
func keyrings() []string {
	return []string{".builtin_trusted_keys", ".secondary_trusted_keys", ".machine", ".platform"}
}

// security reads what the kernel allows to be loaded.
func (r *Reader) security(h *Host) {
	h.Lockdown = parseLockdown(r.optional("sys/kernel/security/lockdown"))
	h.SigEnforce = r.flag("sys/module/module/parameters/sig_enforce")
	h.ModulesDisabled = r.flag("proc/sys/kernel/modules_disabled")
	h.SecureBoot = r.secureBoot()
	h.Keys = r.keys()
}

// parseLockdown reads "none [integrity] confidentiality".
func parseLockdown(s string) string {
	for f := range strings.FieldsSeq(s) {
		if v, ok := strings.CutPrefix(f, "["); ok {
			return strings.TrimSuffix(v, "]")
		}
	}
	return ""
}

// secureBoot: nil when the firmware's variables cannot be read. A variable is
// four bytes of attributes and its value (Documentation/filesystems/efivarfs).
// shim mirrors into MokSBStateRT that the owner has turned its checks off,
// which kernels treat as no Secure Boot.
func (r *Reader) secureBoot() *bool {
	const dir = "sys/firmware/efi"
	if _, err := r.dirs(dir); absent(err) {
		off := false
		return &off // no UEFI, so no Secure Boot
	}
	b, err := r.bytes(dir+"/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", maxSmall)
	if err != nil || len(b) != 5 {
		if err == nil {
			err = fmt.Errorf("%d bytes, not 5", len(b))
		}
		r.note(dir+"/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", err)
		return nil
	}
	on := b[4] == 1
	if m, err := r.bytes(dir+"/efivars/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23", maxSmall); err == nil && len(m) == 5 && m[4] == 1 {
		on = false
	}
	return &on
}

// keys lists the keys of the trusted keyrings. /proc/keys describes keys but
// does not say which keyring holds them.
func (r *Reader) keys() []Key {
	const path = "proc/keys"
	read := r.Keyring
	if read == nil {
		if r.root() != "/" {
			return nil
		}
		read = readKeyring
	}
	rings := map[int32]string{}
	described := map[int32]Key{}
	r.list(path, func(line string) error {
		k, err := ParseKey(line)
		switch {
		case err != nil:
			return err
		case len(described) >= maxItems:
			return errTooMany
		case k.Type == "keyring" && slices.Contains(keyrings(), k.Name):
			rings[k.Serial] = k.Name
		case strings.HasPrefix("asymmetric", k.Type):
			described[k.Serial] = Key{Serial: k.Serial, Name: k.Name, ID: k.ID}
		}
		return nil
	})
	var out []Key
	for serial, ring := range rings {
		members, err := read(serial)
		if err != nil {
			r.note(path, fmt.Errorf("keyring %s: %w", ring, err))
			continue
		}
		for _, m := range members {
			if k, ok := described[m]; ok && len(out) < maxItems {
				k.Keyring = ring
				out = append(out, k)
			}
		}
	}
	order.Sort(out, func(a, b Key) int {
		if c := strings.Compare(a.Keyring, b.Keyring); c != 0 {
			return c
		}
		return int(a.Serial) - int(b.Serial)
	})
	return out
}

// KeyLine is a line of /proc/keys.
type KeyLine struct {
	Serial int32
	Type   string // cut to nine bytes by the kernel: "asymmetri"
	Name   string
	ID     string // hex, of asymmetric keys
}

// ParseKey reads "SERIAL FLAGS USAGE TIMEOUT PERM UID GID TYPE DESCRIPTION",
// as proc_keys_show of security/keys/proc.c writes it. The description of an
// X.509 key is "SUBJECT: ID: X509.ALGORITHM …"; that of a keyring "NAME: COUNT".
func ParseKey(line string) (KeyLine, error) {
	bad := func(what string) (KeyLine, error) { return KeyLine{}, fmt.Errorf("key line %.80q: %s", line, what) }
	rest := line
	var f [8]string
	for i := range f {
		rest = strings.TrimLeft(rest, " ")
		var ok bool
		if f[i], rest, ok = strings.Cut(rest, " "); !ok {
			return bad("fewer than nine fields")
		}
	}
	serial, err := strconv.ParseUint(f[0], 16, 31)
	if err != nil {
		return bad("its serial number is not one")
	}
	k := KeyLine{Serial: int32(serial), Type: f[7]}
	rest = strings.TrimLeft(rest, " ")
	if k.Type != "asymmetri" && k.Type != "asymmetric" {
		k.Name = rest
		if i := strings.LastIndex(rest, ": "); i >= 0 {
			k.Name = rest[:i]
		}
		return k, nil
	}
	// What the key's own type adds comes after the last ": ".
	if i := strings.LastIndex(rest, ": "); i >= 0 {
		rest = rest[:i]
	}
	k.Name = rest
	if i := strings.LastIndex(rest, ": "); i >= 0 && isHex(rest[i+2:]) {
		k.Name, k.ID = rest[:i], rest[i+2:]
	}
	return k, nil
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }
