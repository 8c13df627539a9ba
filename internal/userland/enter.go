// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// nobody owns what is built, and runs what builds it, where this process is root.
const nobody = 65534

// room is a build root as a program sees it that runs in it.
type room struct {
	root     string // directory with /usr
	binds    []bind // over it, in this order
	writable bool   // the root itself; else only what is bound
	env      []string
	// scratch, when set, takes all changes below the directory tree of the room.
	scratch, tree string
}

// bind shows a directory of the host at a place of the room.
type bind struct {
	host, inside string
	readOnly     bool
}

// roomScript builds a room in a mount namespace of its own and enters it.
// Arguments: root, "rw" or "ro", user or "", then of each mount kind, host,
// inside; "--"; the working directory; "env" arguments and the program. A
// device can't be made by the unprivileged: those of the host are bound.
const roomScript = `
root=$1 mode=$2 user=$3; shift 3
mount --bind "$root" "$root"
[ "$mode" = rw ] || mount -o remount,bind,ro "$root" 2>/dev/null || [ -z "$user" ]
mount -t proc proc "$root/proc"
for d in tmp build tsugi; do mount -t tmpfs -o mode=1777 tmpfs "$root/$d"; done
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for d in null zero full random urandom tty; do : >"$root/dev/$d"; mount --bind "/dev/$d" "$root/dev/$d"; done
mkdir -m 1777 "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"; ln -s fd/0 "$root/dev/stdin"; ln -s fd/1 "$root/dev/stdout"; ln -s fd/2 "$root/dev/stderr"
while [ "$1" != -- ]; do
	mkdir -p "$root/$3"
	case $1 in
	overlay) mount -t overlay -o "lowerdir=$root/$3,upperdir=$2/upper,workdir=$2/work" overlay "$root/$3" ;;
	*) mount --bind "$2" "$root/$3"; [ "$1" = rw ] || mount -o remount,bind,ro "$root/$3" 2>/dev/null || [ -z "$user" ] ;;
	esac
	shift 3
done
shift
exec chroot ${user:+--userspec="$user"} ${user:+--groups=} "$root" /usr/bin/env -i -C "$@"
`

// run runs a program in the room: without network, in namespaces of its own
// that end with it. It returns what kernel.Command.Run returns.
func (r room) run(ctx context.Context, dir string, argv []string, stdin io.Reader, stdout io.Writer) ([]byte, error) {
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "--propagation", "private"}
	user := ""
	if os.Geteuid() == 0 {
		user = fmt.Sprintf("%d:%d", nobody, nobody)
		if r.writable {
			user = "0:0"
		}
	} else {
		args = append(args, "--user", "--map-root-user")
	}
	mode := "ro"
	if r.writable {
		mode = "rw"
	}
	args = append(args, "--", "/bin/sh", "-euc", roomScript, "room", r.root, mode, user)
	for _, b := range r.binds {
		kind := "rw"
		if b.readOnly {
			kind = "ro"
		}
		args = append(args, kind, b.host, b.inside)
	}
	if r.scratch != "" {
		if strings.ContainsAny(r.scratch, ",:\\") { // overlayfs would take them for the end of an option
			return nil, code.New("TS3538", r.scratch, "the directory's name has a comma, a colon or a backslash")
		}
		if err := makeScratch(r.scratch); err != nil {
			return nil, err
		}
		defer removeWork(r.scratch)
		args = append(args, "overlay", r.scratch, r.tree)
	}
	args = append(args, "--", dir)
	args = append(args, r.env...)
	args = append(args, argv...)
	out, err := kernel.Command{Name: "unshare", Args: args, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, Stdin: stdin, Stdout: stdout}.Run(ctx)
	if exit, ok := errors.AsType[*kernel.ExitError](err); ok {
		said := string(exit.Output)
		if strings.HasPrefix(said, "unshare: ") || strings.Contains(said, "mount: ") || strings.Contains(said, "chroot: cannot change root") {
			return out, code.New("TS3538", r.root, lastLine(exit.Output)).With(err)
		}
		exit.Command = strings.Join(argv[:min(3, len(argv))], " ")
	}
	return out, err
}

func lastLine(b []byte) string {
	s := strings.TrimSpace(string(b))
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// makeScratch makes the directories that overlayfs needs. What is in upper
// belongs to whoever builds.
func makeScratch(dir string) error {
	for _, d := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return kernel.DiskError(dir, err)
		}
	}
	return giveAway(filepath.Join(dir, "upper"))
}

// removeWork removes the directory that overlayfs worked in, which it leaves
// without any permission.
func removeWork(dir string) {
	work := filepath.Join(dir, "work")
	_ = os.Chmod(filepath.Join(work, "work"), 0o700) // not there when nothing was mounted
	_ = os.RemoveAll(work)                           // or the caller finds it when it removes its directory
}

// giveAway makes what is below a directory belong to the user of builds.
func giveAway(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
}

// Run is one run of a program in a target's build root.
type Run struct {
	Argv  []string
	Dir   string    // in the root; "" for BuildPath
	Env   []string  // added to the environment of the build
	Stdin io.Reader // nil for none
	// Scratch is a directory that takes what the program writes below
	// BuildPath, at Scratch/upper/<path below BuildPath>. What lies there before
	// the run stands over the files of the build: patched sources do. Without
	// Scratch the program can write nowhere but in its /tmp.
	Scratch string
	// Out is a directory that the program sees as /tsugi/out and may write to.
	Out string
}

// Run runs a program where the target was built. The build itself stays as it
// is. A program that fails is a *kernel.ExitError; the result is its output.
func (t *Target) Run(ctx context.Context, r Run) ([]byte, error) {
	parent := path.Dir(t.BuildPath)
	rm := room{
		root: t.Root, env: slices.Concat(t.Env, r.Env), tree: t.BuildPath, scratch: r.Scratch,
		binds: append(slices.Clip(t.binds), bind{filepath.Dir(t.Build), parent, true}),
	}
	if r.Out != "" {
		if err := giveAway(r.Out); err != nil {
			return nil, err
		}
		rm.binds = append(rm.binds, bind{host: r.Out, inside: "/tsugi/out"})
	}
	dir := r.Dir
	if dir == "" {
		dir = t.BuildPath
	}
	return rm.run(ctx, dir, r.Argv, r.Stdin, nil)
}
