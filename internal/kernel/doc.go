// SPDX-License-Identifier: Apache-2.0

// Package kernel keeps kernel targets: exact kernels that can be patched
// live, each with its image, its modules, its source and a build directory
// in which single objects compile as the distribution compiled them.
//
// In goes the name of a target: "debian:6.1.0-55-amd64" is a kernel package
// of the configured apt sources, "tree:DIR" a kernel that someone built. Out
// comes a Target: no debug package is needed, only the image, the headers
// (for .config and Module.symvers) and the source package.
//
// It refuses a kernel whose compiler or build tools are not the ones of this
// machine, because objects made here would then not be the running code.
//
// Formats: Documentation/kbuild/kconfig.rst (.config),
// Documentation/kbuild/modules.rst (Module.symvers), deb822(5) as printed by
// apt-cache(8).
package kernel
