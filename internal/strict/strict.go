// SPDX-License-Identifier: Apache-2.0

// Package strict reads JSON that has to be exactly what is expected: what was
// signed, or came from elsewhere, says nothing that nobody looks at.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// JSON reads exactly one value, with no fields that v does not have.
func JSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
