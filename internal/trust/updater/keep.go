// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
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
	// newest is below what nothing may go back.
	newest topLevel
	// cached are states that are whole in themselves, for when there is no
	// network: the latest first. What a failed update left behind in newest
	// does not touch them.
	cached []cachedState

	Floors    map[string]floor `json:"floors,omitempty"` // by path of the index
	Refreshed time.Time        `json:"refreshed"`
}

type topLevel struct{ timestamp, snapshot, targets []byte }

// cachedState is an index with all that it is verified by.
type cachedState struct {
	topLevel
	role, index []byte // index nil: the tier has none for this kernel

	Tier      string    `json:"tier"`
	BuildID   string    `json:"build_id"`
	Policy    string    `json:"policy,omitempty"`
	Refreshed time.Time `json:"refreshed"`
}

// maxCached is how many kernels' indexes are kept: a machine may boot an older
// one before its network is up.
const maxCached = 4

// floor is the number below which an index is not taken any more.
type floor struct {
	Sequence int64    `json:"sequence"`
	Keys     []string `json:"keys"` // ids of the tier's keys then
}

// find returns the cached state of a tier, a kernel and a policy.
func (k *kept) find(tier, buildID, policy string) (cachedState, bool) {
	for _, c := range k.cached {
		if c.Tier == tier && c.BuildID == buildID && c.Policy == trust.PolicyWord(policy) {
			return c, true
		}
	}
	return cachedState{}, false
}

// role is the newest metadata of a tier that is at hand.
func (k *kept) role(tier string) []byte {
	for _, c := range k.cached {
		if c.Tier == tier {
			return c.role
		}
	}
	return nil
}

// with is the same with another state cached, in the place of the one of that
// tier, kernel and policy.
func (k *kept) with(c cachedState) *kept {
	next := *k
	next.cached = []cachedState{c}
	for _, o := range k.cached {
		if (o.Tier != c.Tier || o.BuildID != c.BuildID || o.Policy != c.Policy) && len(next.cached) < maxCached {
			next.cached = append(next.cached, o)
		}
	}
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
	empty := &kept{Floors: map[string]floor{}}
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
	k := &kept{}
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
	if !k.newest.whole() {
		return nil, errors.New("it is not whole")
	}
	for _, c := range k.cached {
		if !c.whole() || c.role == nil {
			return nil, errors.New("it is not whole")
		}
	}
	if again, err := k.bytes(); err != nil || !bytes.Equal(again, b) {
		return nil, errors.New("it is not as it was written") // a tar that lost its end looks like a shorter one
	}
	if k.Floors == nil {
		k.Floors = map[string]floor{}
	}
	return k, nil
}

func (t *topLevel) whole() bool {
	return t.timestamp != nil && t.snapshot != nil && t.targets != nil
}

func (t *topLevel) member(name string) *[]byte {
	switch name {
	case "timestamp.json":
		return &t.timestamp
	case "snapshot.json":
		return &t.snapshot
	case "targets.json":
		return &t.targets
	}
	return nil
}

func (k *kept) member(name string, body []byte) error {
	if name == stateName {
		return json.Unmarshal(body, k)
	}
	dir, file := path.Split(name)
	if dir == "newest/" {
		if p := k.newest.member(file); p != nil {
			*p = body
			return nil
		}
	}
	var i int
	if _, err := fmt.Sscanf(dir, "cached-%d/", &i); err != nil || i < 0 || i > len(k.cached) || i >= maxCached {
		return fmt.Errorf("member %s: unknown", name)
	}
	if i == len(k.cached) {
		k.cached = append(k.cached, cachedState{})
	}
	c := &k.cached[i]
	switch file {
	case stateName:
		return json.Unmarshal(body, c)
	case "role.json":
		c.role = body
	case "index.json":
		c.index = body
	default:
		p := c.topLevel.member(file)
		if p == nil {
			return fmt.Errorf("member %s: unknown", name)
		}
		*p = body
	}
	return nil
}

func (k *kept) bytes() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var err error
	put := func(name string, body []byte) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(body)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
		}
		if err == nil {
			_, err = w.Write(body)
		}
	}
	top := func(dir string, state any, t topLevel) {
		b, e := json.Marshal(state)
		err = errors.Join(err, e)
		put(dir+stateName, b)
		if dir == "" {
			dir = "newest/"
		}
		put(dir+"timestamp.json", t.timestamp)
		put(dir+"snapshot.json", t.snapshot)
		put(dir+"targets.json", t.targets)
	}
	top("", k, k.newest)
	for i, c := range k.cached {
		dir := fmt.Sprintf("cached-%d/", i)
		top(dir, c, c.topLevel)
		put(dir+"role.json", c.role)
		if c.index != nil {
			put(dir+"index.json", c.index)
		}
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

// save writes down what follows on what the disk has, if anything is new.
func (u *Updater) save(have, next *kept) error {
	// The time of a refresh alone is not worth a write: an idle machine would
	// wear its disk for it.
	if have.newest.whole() && next.Refreshed.Sub(have.Refreshed).Abs() < time.Hour {
		a, errA := have.timeless().bytes()
		b, errB := next.timeless().bytes()
		if errA == nil && errB == nil && bytes.Equal(a, b) {
			return nil
		}
	}
	b, err := next.bytes()
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(u.path(trustedFile), b, 0o600); err != nil {
		return disk(u.path(trustedFile), err)
	}
	return nil
}

// timeless is the same without its times.
func (k *kept) timeless() *kept {
	out := *k
	out.Refreshed = time.Time{}
	out.cached = slices.Clone(k.cached)
	for i := range out.cached {
		out.cached[i].Refreshed = time.Time{}
	}
	return &out
}

func disk(path string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	return code.New("TS7122", path, "").With(err)
}
