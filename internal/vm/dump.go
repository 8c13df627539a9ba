// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// dumps puts the chunks of dumped files together. Only a dump whose end has
// arrived, and which has the size that the guest gave, counts.
type dumps map[string]*partial

type partial struct {
	z    bytes.Buffer
	end  bool
	size int64
}

func (d dumps) add(data json.RawMessage) {
	var c wire.Chunk
	if json.Unmarshal(data, &c) != nil {
		return
	}
	p := d[c.Name]
	if p == nil {
		p = &partial{}
		d[c.Name] = p
	}
	p.z.Write(c.Gzip)
	if c.End {
		p.end, p.size = true, c.Size
	}
}

func (d dumps) finish(into map[string][]byte) {
	for name, p := range d {
		if !p.end || p.size < 0 || p.size > maxDump {
			continue
		}
		z, err := gzip.NewReader(&p.z)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(z, p.size+1))
		if err == nil && int64(len(b)) == p.size {
			into[name] = b
		}
	}
}
