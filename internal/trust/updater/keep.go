// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// The files of the directory. root.json changes by itself, as soon as a newer
// root holds; everything else is one file and changes at once. It is a tar so
// that a person can look into it.
const (
	pinnedFile  = "pinned-root.json" // as it was at enrolment
	rootFile    = "root.json"        // the newest
	trustedFile = "trusted.tar"

	stateName = "state.json"
	maxKept   = 64 << 20
)

// kept is what a machine has verified and goes on from.
type kept struct {
	timestamp, snapshot, targets []byte

	Tiers     map[string]tierFiles `json:"-"`
	Floors    map[string]floor     `json:"floors,omitempty"` // by path of the index
	Refreshed time.Time            `json:"refreshed"`
}

type tierFiles struct {
	meta    []byte
	indexes map[string][]byte // by build-id
}

// floor is the number below which an index is not taken any more.
type floor struct {
	Sequence int64    `json:"sequence"`
	Keys     []string `json:"keys"` // ids of the tier's keys then
}

func (k *kept) withTier(tier string, files tierFiles) *kept {
	next := *k
	next.Tiers = maps.Clone(k.Tiers)
	if next.Tiers == nil {
		next.Tiers = map[string]tierFiles{}
	}
	next.Tiers[tier] = files
	return &next
}

// loadRoot reads the newest root that holds. When that is lost, the pinned one
// leads to it again.
func (u *Updater) loadRoot() ([]byte, error) {
	var last error
	for _, name := range []string{rootFile, pinnedFile} {
		b, err := os.ReadFile(u.path(name))
		if err == nil {
			err = repo.VerifyRoot(b)
		}
		if err == nil {
			return b, nil
		}
		if last == nil || !errors.Is(err, os.ErrNotExist) {
			last = disk(u.path(name), err)
		}
	}
	if errors.Is(last, os.ErrNotExist) {
		return nil, code.New("TS7110", "", "")
	}
	return nil, last
}

// load reads what is kept. There is always a value: an empty one when nothing
// is kept, and with an error when it is damaged.
func (u *Updater) load() (*kept, error) {
	empty := &kept{Tiers: map[string]tierFiles{}, Floors: map[string]floor{}}
	b, err := os.ReadFile(u.path(trustedFile))
	if errors.Is(err, os.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, disk(u.path(trustedFile), err)
	}
	k, err := parseKept(b)
	if err != nil {
		return empty, code.New("TS7122", u.path(trustedFile), "").With(err)
	}
	return k, nil
}

func parseKept(b []byte) (*kept, error) {
	k := &kept{Tiers: map[string]tierFiles{}}
	t := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > maxKept {
			return nil, fmt.Errorf("member %s: not a plain file", h.Name)
		}
		body, err := io.ReadAll(io.LimitReader(t, h.Size))
		if err != nil {
			return nil, err
		}
		if err := k.member(h.Name, body); err != nil {
			return nil, err
		}
	}
	if k.timestamp == nil || k.snapshot == nil || k.targets == nil {
		return nil, errors.New("it is not whole")
	}
	if k.Floors == nil {
		k.Floors = map[string]floor{}
	}
	return k, nil
}

func (k *kept) member(name string, body []byte) error {
	switch name {
	case "timestamp.json":
		k.timestamp = body
	case "snapshot.json":
		k.snapshot = body
	case "targets.json":
		k.targets = body
	case stateName:
		return json.Unmarshal(body, k)
	default:
		tier, file, ok := strings.Cut(name, "/")
		if !ok || !trust.TierName(tier) {
			return fmt.Errorf("member %s: unknown", name)
		}
		files := k.Tiers[tier]
		if file == "role.json" {
			files.meta = body
		} else {
			if files.indexes == nil {
				files.indexes = map[string][]byte{}
			}
			files.indexes[strings.TrimSuffix(file, ".json")] = body
		}
		k.Tiers[tier] = files
	}
	return nil
}

func (k *kept) bytes() ([]byte, error) {
	state, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(name string, body []byte) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(body)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
		}
		if err == nil {
			_, err = w.Write(body)
		}
	}
	put(stateName, state)
	put("timestamp.json", k.timestamp)
	put("snapshot.json", k.snapshot)
	put("targets.json", k.targets)
	for _, tier := range slices.Sorted(maps.Keys(k.Tiers)) {
		files := k.Tiers[tier]
		put(tier+"/role.json", files.meta)
		for _, id := range slices.Sorted(maps.Keys(files.indexes)) {
			put(tier+"/"+id+".json", files.indexes[id])
		}
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

// save writes down what follows on what the disk has, if anything is new.
func (u *Updater) save(have, next *kept) error {
	b, err := next.bytes()
	if err != nil {
		return err
	}
	// The time of the refresh alone is not worth a write: an idle machine
	// would wear its disk for it.
	if have.timestamp != nil && next.Refreshed.Sub(have.Refreshed).Abs() < time.Hour {
		same := *next
		same.Refreshed = have.Refreshed
		a, errA := same.bytes()
		h, errH := have.bytes()
		if errA == nil && errH == nil && bytes.Equal(a, h) {
			return nil
		}
	}
	if err := renameio.WriteFile(u.path(trustedFile), b, 0o600); err != nil {
		return disk(u.path(trustedFile), err)
	}
	return nil
}

func disk(path string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	return code.New("TS7122", path, "").With(err)
}
