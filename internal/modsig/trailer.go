// SPDX-License-Identifier: Apache-2.0

package modsig

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
)

const (
	magic = "~Module signature appended~\n"
	// struct module_signature: algo, hash, id_type, signer_len, key_id_len,
	// three bytes of padding, sig_len (big endian). All but id_type and
	// sig_len are zero for a CMS message.
	trailerLen = 12
	idCMS      = 2 // PKEY_ID_PKCS7
)

// Split cuts a module file into what is signed and the CMS message behind it.
// sig is nil when the module carries none. Both alias module.
func Split(module []byte) (content, sig []byte, err error) {
	rest, ok := bytes.CutSuffix(module, []byte(magic))
	if !ok {
		return module, nil, nil
	}
	bad := func(why string) ([]byte, []byte, error) {
		return nil, nil, code.New("TS5901", "trailer", why)
	}
	if len(rest) < trailerLen {
		return bad(fmt.Sprintf("%d bytes before its end mark where its %d should be", len(rest), trailerLen))
	}
	t := rest[len(rest)-trailerLen:]
	rest = rest[:len(rest)-trailerLen]
	if t[2] != idCMS {
		return bad(fmt.Sprintf("its type is %d, not %d (CMS)", t[2], idCMS))
	}
	if !bytes.Equal(t[:2], make([]byte, 2)) || !bytes.Equal(t[3:8], make([]byte, 5)) {
		return bad("fields that must be zero for a CMS message are not")
	}
	n := uint64(binary.BigEndian.Uint32(t[8:]))
	if n == 0 || n >= uint64(len(rest)) {
		return bad(fmt.Sprintf("it claims a signature of %d bytes in a module of %d", n, len(rest)))
	}
	at := len(rest) - int(n)
	return rest[:at:at], rest[at:], nil
}

// Append returns content with a CMS message and the trailer behind it.
func Append(content, sig []byte) []byte {
	out := make([]byte, 0, len(content)+len(sig)+trailerLen+len(magic))
	out = append(out, content...)
	out = append(out, sig...)
	out = append(out, 0, 0, idCMS, 0, 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(len(sig)))
	return append(out, magic...)
}
