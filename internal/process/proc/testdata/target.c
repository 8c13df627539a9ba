// SPDX-License-Identifier: Apache-2.0

// What the tests look at: a program that says where things lie in it, and waits
// for its input to end, so that it ends with the test however that ends.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

volatile char text[64] = "what the test reads and writes";
static const volatile char constant[64] = "in a page that is not to be written";

#ifdef LIBRARY
int fixture(void);
#define FUNCTION ((void *)fixture)
#else
#define FUNCTION ((void *)main)
#endif

static void hold(void)
{
	char c;
	while (read(0, &c, 1) > 0)
		;
}

static void *thread(void *unused)
{
	(void)unused;
	hold();
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "wait";
	void *third = FUNCTION;

	if (!strcmp(mode, "leader")) { // the first thread ends, another one goes on
		pthread_t t;
		pthread_create(&t, NULL, thread, NULL);
		printf("%p %p %p\n", (void *)text, (void *)constant, third);
		fflush(stdout);
		pthread_exit(NULL);
	}
	if (!strcmp(mode, "silent")) { // a page that never comes
		int fd = syscall(SYS_userfaultfd, 0);
		struct uffdio_api api = {.api = UFFD_API};
		third = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct uffdio_register reg = {.range = {(uintptr_t)third, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
		if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg)) {
			printf("no userfaultfd\n");
			return 1;
		}
	}
#ifdef DL
	if (!strcmp(mode, "twice")) // the same file in two name spaces of the loader
		third = dlsym(dlmopen(LM_ID_NEWLM, argv[2], RTLD_NOW), "fixture");
#endif
	if (!strcmp(mode, "as")) { // a child of a given number
		pid_t want = atoi(argv[2]);
		struct clone_args a = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&want, .set_tid_size = 1};
		long pid = syscall(SYS_clone3, &a, sizeof a);
		if (pid < 0) {
			printf("no clone3\n");
			return 1;
		}
		if (pid > 0) {
			waitpid(pid, NULL, 0);
			return 0;
		}
	}
	if (!strcmp(mode, "many")) { // children that share the input
		for (int n = atoi(argv[2]); n > 0; n--)
			if (fork() == 0) {
				hold();
				_exit(0);
			}
	}
	if (!strcmp(mode, "storm")) { // children that end at once
		prctl(PR_SET_PDEATHSIG, SIGKILL); // it never looks at its input
		printf("%p %p %p\n", (void *)text, (void *)constant, third);
		fflush(stdout);
		for (int i = 0;; i++) {
			if (fork() == 0)
				_exit(0);
			while (waitpid(-1, NULL, i % 64 ? WNOHANG : 0) > 0)
				;
		}
	}
	printf("%p %p %p\n", (void *)text, (void *)constant, third);
	fflush(stdout);
	if (!strcmp(mode, "exec")) {
		char c;
		read(0, &c, 1);
		execl("/proc/self/exe", "target", "wait", (char *)0);
	}
	hold();
	return 0;
}
