// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// What the agent and a keeper that runs tell each other lies in a directory below
// that of the live patches: seek.json is the agent's, status.json is the
// keeper's, who holds the lock as long as it runs.
const (
	sideName   = "keeper"
	seekName   = "seek.json"
	statusName = "status.json"
	lockName   = "lock"
)

// maxSide bounds the bytes of a file there.
const maxSide = 64 << 20

// How often processes are counted for the agent, and how much of the time that
// may take at most: one part of countShare.
const (
	countEvery = time.Minute
	countShare = 50
)

// Senses are what a keeper that runs needs to know of the machine beside what it
// has of processes by Engine.
type Senses interface {
	// Mapped returns the wanted build-ids that each process runs code of, for those
	// that run code of some.
	Mapped(ctx context.Context, wanted func(buildID string) bool) ([][]string, error)
	// Outdated are the processes that run files that have been replaced on the disk.
	Outdated(ctx context.Context) ([]Outdated, error)
	// Crashes calls each for each process that ends by a fault, until ctx ends. Of
	// a process that can't be looked at any more, only the number is known.
	Crashes(ctx context.Context, each func(id proc.ID, name, signal string, at time.Time)) error
	// Started tells when a process started.
	Started(id proc.ID) time.Time
}

// Serve is Run, with an account for the agent. Only one keeper of a directory
// serves at a time.
func (k *Keeper) Serve(ctx context.Context, log *slog.Logger, senses Senses) error {
	side := k.side()
	if err := os.MkdirAll(side, 0o700); err != nil {
		return code.New("TS9661", side, "").With(err)
	}
	lock, err := hold(ctx, filepath.Join(side, lockName))
	if err != nil {
		return err
	}
	defer lock.Close()
	status := filepath.Join(side, statusName)
	if err := os.Remove(status); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return code.New("TS9661", status, "").With(err)
	}
	k.book = &book{
		path: status, log: log, now: k.now, started: senses.Started,
		account: Account{Mapped: []Population{}}, treated: map[int]treated{}, faulty: map[string]time.Time{},
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { k.census(ctx, log, senses) })
	wg.Go(func() {
		err := senses.Crashes(ctx, k.book.crashed)
		if ctx.Err() != nil {
			return
		}
		log.Warn("programs that crash are not seen", "err", err)
		p := problemOf(err)
		if c, ok := errors.AsType[*code.Problem](err); ok {
			p = c
		}
		why := p.Why
		if p.Err != nil {
			why = p.Err.Error()
		}
		k.book.deaf(&api.Problem{Code: p.Code, What: p.What, Why: why, Fix: p.Fix})
	})
	return k.Run(ctx, log)
}

// hold takes the lock of a keeper that runs. Whoever looks whether one does has it
// for a moment.
func hold(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, code.New("TS9661", path, "").With(err)
	}
	for end := time.Now().Add(2 * time.Second); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) || ctx.Err() != nil {
			f.Close()
			return nil, code.New("TS9662", path, "another tsugi keep runs").With(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// census counts processes for the agent: when it asks for others, and now and then.
func (k *Keeper) census(ctx context.Context, log *slog.Logger, senses Senses) {
	path := filepath.Join(k.side(), seekName)
	var asked, next, nextStale time.Time
	for ctx.Err() == nil {
		now := k.now()
		at := changedAt(path)
		if !at.Equal(asked) || !now.Before(nextStale) {
			s, err := k.staleNow(ctx, path, senses)
			ended := k.now()
			nextStale = now.Add(max(staleEvery, countShare*ended.Sub(now)))
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				log.Warn("processes with replaced files are not counted", "err", err)
			default:
				k.book.stale(s)
			}
			now = ended
		}
		if !at.Equal(asked) || !now.Before(next) {
			asked = at
			mapped, sought, err := k.count(ctx, path, senses)
			took := k.now().Sub(now)
			next = now.Add(max(countEvery, countShare*took))
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				log.Warn("processes are not counted", "err", err)
			default:
				k.book.counted(mapped, sought)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(looksForChange):
		}
	}
}

func changedAt(path string) time.Time {
	s, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return s.ModTime()
}

// count counts the processes of each package that the agent asks about, and
// returns the digest of what it asked.
func (k *Keeper) count(ctx context.Context, path string, senses Senses) (map[string]int, string, error) {
	files, of, err := sought(path)
	if err != nil || len(files) == 0 {
		return nil, Sought(files), err
	}
	found, err := senses.Mapped(ctx, func(b string) bool { return len(of[b]) > 0 })
	if err != nil {
		return nil, "", err
	}
	out := map[string]int{}
	for _, builds := range found {
		once := map[string]bool{}
		for _, b := range builds {
			for _, id := range of[b] {
				if !once[id] {
					once[id] = true
					out[id]++
				}
			}
		}
	}
	return out, Sought(files), nil
}

// sought is what the agent asks about: build-ids by package, and packages by
// build-id.
func sought(path string) (files, of map[string][]string, err error) {
	files, err = readSide[map[string][]string](path)
	of = map[string][]string{}
	for id, builds := range files {
		for _, b := range builds {
			of[b] = append(of[b], id)
		}
	}
	return files, of, err
}

// Sought is the digest by which an account tells what it counts.
func Sought(files map[string][]string) string {
	b, err := json.Marshal(files)
	if err != nil {
		return ""
	}
	return digest(b)
}

func (k *Keeper) side() string { return filepath.Join(k.dir.path, sideName) }

// readSide reads a file that the other one may not have written yet.
func readSide[T any](path string) (T, error) {
	var v T
	s, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err == nil && s.Size() > maxSide {
		err = errors.New("it is too long")
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return v, code.New("TS9661", path, "").With(err)
	}
	return v, nil
}

// Seek says which build-ids the processes are counted of, by package.
func (k *Keeper) Seek(files map[string][]string) error {
	side := k.side()
	if err := os.MkdirAll(side, 0o700); err != nil {
		return code.New("TS9661", side, "").With(err)
	}
	b, err := json.Marshal(files)
	if err != nil {
		return err
	}
	path := filepath.Join(side, seekName)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(b) {
		return nil
	}
	if err := renameio.WriteFile(path, b, 0o600); err != nil {
		return code.New("TS9661", path, "").With(err)
	}
	return nil
}

// Running reports whether a keeper serves this directory.
func (k *Keeper) Running() (bool, error) {
	path := filepath.Join(k.side(), lockName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, code.New("TS9661", path, "").With(err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, code.New("TS9661", path, "").With(err)
	}
	return false, nil
}

// Told is what the keeper has written down, and when; nil when it has not yet.
// same is the time of what the caller has: then it is nil too.
func (k *Keeper) Told(same time.Time) (*Account, time.Time, error) {
	path := filepath.Join(k.side(), statusName)
	at := changedAt(path)
	if at.IsZero() || at.Equal(same) {
		return nil, at, nil
	}
	a, err := readSide[*Account](path)
	return a, at, err
}
