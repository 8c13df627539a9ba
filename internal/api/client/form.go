// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"mime/multipart"
	"net/url"
	"strconv"
)

// query makes a query of names and values; empty values are left out.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// number is a number of a query; 0 is left to the server.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// flag is a yes of a query; a no is left to the server.
func flag(b bool) string {
	if b {
		return "true"
	}
	return ""
}

// part is a file of a multipart form.
type part struct {
	name  string
	bytes []byte
}

// form is a multipart form of files and its content type; nil ones are left
// out.
func form(parts ...part) (body []byte, kind string, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		if p.bytes == nil {
			continue
		}
		f, err := w.CreateFormFile(p.name, p.name)
		if err != nil {
			return nil, "", err
		}
		if _, err := f.Write(p.bytes); err != nil {
			return nil, "", err
		}
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	return b.Bytes(), w.FormDataContentType(), nil
}
