// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// Process 1 collects the processes that end, and who traces processes must not
// wait for others: so what works on processes is this program again, as a child
// of process 1.
const engineName = "tsugi-process"

// liveDir is where the keeper of the machine remembers what it keeps.
const liveDir = "/run/tsugi/live"

// engineMain does one thing and writes its result, JSON, on standard output.
func engineMain(args []string) int {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	// Emulation is slow: a thread may take long to stop, and nothing else is
	// lost here when it does.
	host := keeper.Host{Engine: process.New(process.Config{Ptrace: ptrace.Options{Grace: 3 * time.Second}}), Log: log}
	k := keeper.New(liveDir, host)
	var p Patch
	if len(args) != 1 || json.NewDecoder(os.Stdin).Decode(&p) != nil {
		return 2
	}
	var out any
	var err error
	switch args[0] {
	case "apply":
		out, err = applyAll(ctx, k, p)
	case "revert":
		out, err = revertAll(ctx, k, p)
	case "state":
		out, err = lookAtAll(ctx, host.Engine, p.Path)
	case "keep":
		err = k.Run(ctx, log)
	default:
		return 2
	}
	r := engineResult{}
	r.Result, _ = json.Marshal(out)
	if err != nil {
		r.Error = err.Error()
	}
	if json.NewEncoder(os.Stdout).Encode(r) != nil {
		return 1
	}
	return 0
}

type engineResult struct {
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error,omitempty"`
}

// Processes is how the processes stand that map files of a live patch.
type Processes struct {
	Processes []Process `json:"processes"`
	Took      int64     `json:"took_ns,omitempty"`
}

// Process is one of them.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
	// Standing, Why, Pause and Tries are what putting it in or taking it out has
	// said, in the words of the keeper.
	Standing string `json:"standing,omitempty"`
	Why      string `json:"why,omitempty"`
	PauseUS  int64  `json:"pause_us,omitempty"`
	Tries    int    `json:"tries,omitempty"`
	// Files are what was found in it.
	Files []ProcessFile `json:"files,omitempty"`
}

// ProcessFile is one mapped ELF file of a live patch.
type ProcessFile struct {
	Name    string `json:"name"`
	BuildID string `json:"build_id"`
	// Digest is of the splice whose journal says that it is in effect, "" for none.
	Digest string `json:"splice_sha256,omitempty"`
	// Of the functions of the live patch: those at whose entry a jump leads into
	// that splice's code, and those whose bytes are as they were shipped.
	Jumps    int `json:"jumps"`
	Original int `json:"original"`
}

// again is how often a busy process is tried.
const again = 200 * time.Millisecond

func applyAll(ctx context.Context, k *keeper.Keeper, p Patch) (*Processes, error) {
	file, err := os.ReadFile(p.Path)
	if err != nil {
		return nil, err
	}
	return repeat(p, func() (*keeper.Report, error) { return k.Apply(ctx, file) })
}

func revertAll(ctx context.Context, k *keeper.Keeper, p Patch) (*Processes, error) {
	first := true
	return repeat(p, func() (*keeper.Report, error) {
		r, err := k.Revert(ctx, p.Name)
		if code.Of(err) == "TS9664" && !first { // the last process has let go of it meanwhile
			return &keeper.Report{}, nil
		}
		first = false
		return r, err
	})
}

// repeat changes processes until none is in the way, or for the time that a
// transition may take.
func repeat(p Patch, change func() (*keeper.Report, error)) (*Processes, error) {
	start := time.Now()
	out := &Processes{}
	for {
		r, err := change()
		if err != nil {
			return out, err
		}
		out.add(r)
		out.Took = time.Since(start).Nanoseconds()
		if r.Counts[keeper.Pending] == 0 || time.Since(start) > p.limit() {
			return out, out.unfinished()
		}
		time.Sleep(again)
	}
}

// add notes what a pass has said of each process, which may have been there in
// an earlier one.
func (s *Processes) add(r *keeper.Report) {
	for _, p := range r.Processes {
		n := Process{PID: p.PID, Name: p.Name, Standing: string(p.Standing), PauseUS: p.PauseUS, Tries: p.Tries}
		if p.Problem != nil {
			n.Why = fmt.Sprintf("%s: %s %s", p.Problem.Code, p.Problem.What, p.Problem.Why)
		}
		i := slices.IndexFunc(s.Processes, func(o Process) bool { return o.PID == n.PID })
		if i < 0 {
			s.Processes = append(s.Processes, n)
			continue
		}
		old := &s.Processes[i]
		if worseThan(old.Standing, n.Standing) && old.Tries == 0 { // another file of the same pass
			continue
		}
		n.PauseUS, n.Tries = max(old.PauseUS, n.PauseUS), old.Tries+n.Tries
		*old = n
	}
}

func worseThan(a, b string) bool {
	bad := func(s string) bool { return s == string(keeper.Pending) || s == string(keeper.Unprotected) }
	return bad(a) && !bad(b)
}

// unfinished is an error that names a process which is not where it should be.
func (s *Processes) unfinished() error {
	for _, p := range s.Processes {
		if p.Standing == string(keeper.Pending) || p.Standing == string(keeper.Unprotected) {
			return fmt.Errorf("%s (%d) is %s: %s", p.Name, p.PID, p.Standing, p.Why)
		}
	}
	return nil
}

// lookAtAll reads from every process that maps a file of the live patch what of
// it is there, from journals and from the code itself.
func lookAtAll(ctx context.Context, e *process.Engine, path string) (*Processes, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, splices, err := keeper.Open(b)
	if err != nil {
		return nil, err
	}
	ids, err := proc.List(ctx)
	if err != nil {
		return nil, err
	}
	wanted := func(id string) bool {
		return slices.ContainsFunc(splices, func(f *splice.File) bool { return f.BuildID == id })
	}
	found, err := proc.Find(ctx, ids, wanted, proc.FindOptions{})
	if err != nil {
		return nil, err
	}
	out := &Processes{Processes: []Process{}}
	for _, f := range found {
		if len(f.BuildIDs) == 0 {
			continue
		}
		p, err := lookAt(ctx, e, f.ID, splices)
		if proc.Gone(err) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("process %d: %w", f.ID.PID, err)
		}
		out.Processes = append(out.Processes, *p)
	}
	return out, nil
}

func lookAt(ctx context.Context, e *process.Engine, id proc.ID, splices []*splice.File) (*Process, error) {
	p, err := proc.OpenID(ctx, id)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	status, err := p.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := &Process{PID: id.PID, Name: status.Name}
	there, err := e.State(ctx, p)
	if err != nil {
		return nil, err
	}
	objects, err := p.Objects(ctx)
	if err != nil {
		return nil, err
	}
	memory := p.Memory(ctx)
	for _, o := range objects {
		i := slices.IndexFunc(splices, func(f *splice.File) bool { return f.BuildID == o.BuildID })
		if i < 0 {
			continue
		}
		f := ProcessFile{Name: splices[i].Name, BuildID: o.BuildID}
		var area splice.Range
		for _, t := range there {
			if t.BuildID == o.BuildID && t.Bias == o.Bias && t.State == process.InEffect {
				f.Digest, area = t.Digest, t.Area
			}
		}
		for _, fn := range splices[i].Functions {
			text := make([]byte, fn.Room) // no less than its size
			if _, err := memory.ReadAt(text, int64(o.Bias+fn.Old)); err != nil {
				return nil, err
			}
			sum := sha256.Sum256(text[:fn.Size])
			if hex.EncodeToString(sum[:]) == fn.SHA256 {
				f.Original++
				continue
			}
			if to, ok := jumpTo(text, o.Bias+fn.Old, fn.Skip); ok && to-area.Start < area.Size {
				f.Jumps++
			}
		}
		out.Files = append(out.Files, f)
	}
	return out, nil
}

// jumpTo reads where the jump leads that may stand at a function's entry.
func jumpTo(text []byte, at uint64, skip uint32) (uint64, bool) {
	if uint64(len(text)) < uint64(skip)+splice.JumpSize || text[skip] != 0xe9 {
		return 0, false
	}
	rel := int32(binary.LittleEndian.Uint32(text[skip+1:]))
	return at + uint64(skip) + splice.JumpSize + uint64(int64(rel)), true
}
