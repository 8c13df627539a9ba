// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/tsugi-project/tsugi/internal/code"
)

// MaxEncoded is the most bytes that Decode looks at.
const MaxEncoded = 256 << 20

// Encode checks the File and returns its one form: JSON in the order of the
// fields, without spaces, one line.
func (f *File) Encode() ([]byte, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	return f.marshal()
}

func (f *File) marshal() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		return nil, code.New("TS3501", "", "it can't be written").With(err)
	}
	return b.Bytes(), nil
}

// Decode reads what Encode made, and nothing else: not another spelling of the
// same, and nothing that Check refuses.
func Decode(raw []byte) (*File, error) {
	if len(raw) > MaxEncoded {
		return nil, code.New("TS3501", "", "it is too long")
	}
	f := &File{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(f); err != nil {
		return nil, code.New("TS3501", "", "it is not JSON of its form").With(err)
	}
	if err := f.Check(); err != nil {
		return nil, err
	}
	again, err := f.marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, raw) {
		return nil, code.New("TS3501", printable(f.Name), "it is not in canonical form")
	}
	return f, nil
}

// Digest is the SHA-256 of the encoding, in hex: the File's name in journals.
func (f *File) Digest() (string, error) {
	raw, err := f.Encode()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}
