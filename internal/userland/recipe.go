// SPDX-License-Identifier: Apache-2.0

package userland

// recipe says how much of a source package is built, and how. A recipe is an
// economy: the general one does what the distribution's builders do.
type recipe struct {
	source   string
	profiles []string // build profiles, besides those of all
	packages []string // more packages in the root
	// configure and then script run in the source directory by sh -eu, with $JOBS
	// and the environment of dpkg-buildpackage. A configure that was interrupted
	// starts again with fresh sources, a script goes on in what is there.
	configure, script string
	// flags exports the compiler flags, as dh does for what it runs.
	flags bool
	// with are further binary packages whose files belong to a target: those of
	// the same source and version, by the package that is asked for.
	with map[string][]string
	// debug is a binary package of the same source with debug files by build-id.
	debug string
	// lists are files of the target's packages that list symbols as nm prints
	// them, by the ELF file that they are of.
	lists map[string]string
	// compileCommands is a compilation database that configure makes, below the
	// source: its commands are recorded too.
	compileCommands string
	// stub lets the compiler make empty objects while script runs, and takes a
	// script that fails, as it must when it comes to linking: for sources whose
	// shipped files have symbols, where only the commands are wanted.
	stub bool
}

// allProfiles are the build profiles: what no live patch needs is not built.
func (r recipe) allProfiles() []string {
	return append([]string{"nocheck", "nodoc", "noudeb"}, r.profiles...)
}

// recipeOf gives the recipe of a source package.
func recipeOf(source string) recipe {
	for _, r := range recipes {
		if r.source == source {
			return r
		}
	}
	return recipe{source: source, script: "debian/rules build-arch"}
}

// recipes are the source packages that need less, or more, than the general one.
var recipes = []recipe{
	{
		// Only what goes into shared objects, and not a second time for the archives.
		source:    "openssl",
		flags:     true,
		configure: "debian/rules override_dh_auto_configure",
		script: `make -C build_shared build_generated
make -C build_shared -j"$JOBS" libcrypto.so.3 libssl.so.3 libcrypto.so libssl.so
make -C build_shared -j"$JOBS" providers/legacy.so apps/openssl
`,
	},
	{
		source:    "postgresql-15",
		flags:     true,
		packages:  []string{"libipc-run-perl"}, // configure looks for it though no test is run
		configure: "dh_update_autotools_config\ndh_autoreconf\ndebian/rules override_dh_auto_configure",
		// Without with_llvm each file would be compiled a second time, to bitcode.
		script: `make -C build/src/backend -j"$JOBS" with_llvm=no generated-headers
make -C build/src/backend -j"$JOBS" with_llvm=no
make -C build/src/pl/plpgsql/src -j"$JOBS" with_llvm=no
`,
	},
	{
		// libc6-dbg has the symbols.
		source:    "glibc",
		profiles:  []string{"nobiarch"},
		debug:     "libc6-dbg",
		configure: "debian/rules configure_libc",
		script:    `make -k -C build-tree/amd64-libc -j"$JOBS" subdir_lib`,
		stub:      true,
	},
	{
		// mariadbd.sym.gz has the symbols; of compiling, only what makes sources.
		source:    "mariadb",
		with:      map[string][]string{"mariadb-server": {"mariadb-server-core"}, "mariadb-server-core": {"mariadb-server"}},
		lists:     map[string]string{"/usr/sbin/mariadbd": "/usr/share/doc/mariadb-server/mariadbd.sym.gz"},
		configure: "CMAKE_EXPORT_COMPILE_COMMANDS=ON debian/rules override_dh_auto_configure",
		script:    `make -C builddir -j"$JOBS" GenError GenServerSource`,

		compileCommands: "builddir/compile_commands.json",
	},
}
