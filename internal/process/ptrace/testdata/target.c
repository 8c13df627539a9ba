// SPDX-License-Identifier: Apache-2.0
// A process that does what its first argument says, and tells on its standard
// output whether all went as it should: "ready", then "done N" or "bad ...".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void say(const char *format, ...)
{
	char line[256];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	line[n++] = '\n';
	if (write(1, line, n) != n)
		_exit(9);
}

static void bad(const char *what, long a, long b)
{
	say("bad %s %ld %ld", what, a, b);
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static volatile int over, alone; // alone: the main thread has ended

// A thread waits for standard input to end, or a byte of it: then all is over.
static void *reader(void *arg)
{
	char c;
	(void)arg;
	while (read(0, &c, 1) < 0)
		bad("read of standard input", errno, 0);
	over = 1;
	if (alone) {
		say("done 1");
		_exit(0);
	}
	return NULL;
}

static pthread_t thread(void *(*f)(void *), void *arg)
{
	pthread_t t;
	pthread_attr_t a;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 64 << 10);
	int r = pthread_create(&t, &a, f, arg);
	if (r)
		bad("pthread_create", r, 0);
	return t;
}

// --- idle N: N threads that wait
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static void *idle(void *arg)
{
	pthread_mutex_lock(&lock);
	while (!over)
		pthread_cond_wait(&never, &lock);
	pthread_mutex_unlock(&lock);
	return arg;
}

// --- compute: all registers that programs use hold known values all the time
static uint64_t computed;
static void *compute(void *arg)
{
	(void)arg;
	uint64_t n = 0;
	while (!over) {
		uint64_t wrong;
		__asm__ volatile(
			"mov $0x1111111111111111, %%rbx\n mov $0x2222222222222222, %%rcx\n"
			"mov $0x3333333333333333, %%rdx\n mov $0x4444444444444444, %%rsi\n"
			"mov $0x5555555555555555, %%rdi\n mov $0x6666666666666666, %%r8\n"
			"mov $0x7777777777777777, %%r9\n mov $0x8888888888888888, %%r10\n"
			"mov $0x9999999999999999, %%r11\n mov $0xaaaaaaaaaaaaaaaa, %%r12\n"
			"mov $0xbbbbbbbbbbbbbbbb, %%r13\n mov $0xcccccccccccccccc, %%r14\n"
			"vmovq %%rbx, %%xmm0\n vpbroadcastq %%xmm0, %%ymm0\n"
			"vmovq %%r14, %%xmm15\n vpbroadcastq %%xmm15, %%ymm15\n"
			"fldpi\n"
			"mov %%rsp, %%r15\n movq %%r14, -128(%%rsp)\n" // the red zone, too
			"std\n"
			"mov $2000, %%rax\n"
			"1: dec %%rax\n jnz 1b\n"
			"pushfq\n popq %%rax\n cld\n and $0x400, %%rax\n xor $0x400, %%rax\n"
			"cmp %%r15, %%rsp\n jne 2f\n"
			"movabs $0x1111111111111111, %%r15\n xor %%r15, %%rbx\n or %%rbx, %%rax\n"
			"movabs $0x2222222222222222, %%r15\n xor %%r15, %%rcx\n or %%rcx, %%rax\n"
			"movabs $0x3333333333333333, %%r15\n xor %%r15, %%rdx\n or %%rdx, %%rax\n"
			"movabs $0x4444444444444444, %%r15\n xor %%r15, %%rsi\n or %%rsi, %%rax\n"
			"movabs $0x5555555555555555, %%r15\n xor %%r15, %%rdi\n or %%rdi, %%rax\n"
			"movabs $0x6666666666666666, %%r15\n xor %%r15, %%r8\n or %%r8, %%rax\n"
			"movabs $0x7777777777777777, %%r15\n xor %%r15, %%r9\n or %%r9, %%rax\n"
			"movabs $0x8888888888888888, %%r15\n xor %%r15, %%r10\n or %%r10, %%rax\n"
			"movabs $0x9999999999999999, %%r15\n xor %%r15, %%r11\n or %%r11, %%rax\n"
			"movabs $0xaaaaaaaaaaaaaaaa, %%r15\n xor %%r15, %%r12\n or %%r12, %%rax\n"
			"movabs $0xbbbbbbbbbbbbbbbb, %%r15\n xor %%r15, %%r13\n or %%r13, %%rax\n"
			"movabs $0xcccccccccccccccc, %%r15\n xor %%r15, %%r14\n or %%r14, %%rax\n"
			"movabs $0xcccccccccccccccc, %%r14\n xor -128(%%rsp), %%r14\n or %%r14, %%rax\n"
			"vextracti128 $1, %%ymm0, %%xmm1\n vmovq %%xmm1, %%rbx\n movabs $0x1111111111111111, %%r15\n xor %%r15, %%rbx\n or %%rbx, %%rax\n"
			"vextracti128 $1, %%ymm15, %%xmm1\n vmovq %%xmm1, %%rbx\n movabs $0xcccccccccccccccc, %%r15\n xor %%r15, %%rbx\n or %%rbx, %%rax\n"
			"vmovq %%xmm0, %%rbx\n movabs $0x1111111111111111, %%r15\n xor %%r15, %%rbx\n or %%rbx, %%rax\n"
			"fldpi\n fcomip %%st(1), %%st\n fstp %%st(0)\n je 3f\n"
			"2: mov $1, %%rax\n"
			"3:\n"
			: "=a"(wrong)
			:
			: "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
			  "xmm0", "xmm1", "xmm15", "cc", "memory", "st");
		if (wrong)
			bad("registers", wrong, n);
		__atomic_add_fetch(&computed, 1, __ATOMIC_RELAXED);
		n++;
	}
	return NULL;
}

// --- storm: threads that are born and die all the time
static uint64_t born;
static void *mayfly(void *arg) { __atomic_add_fetch(&born, 1, __ATOMIC_RELAXED); return arg; }
static void *breeder(void *arg)
{
	while (!over)
		pthread_join(thread(mayfly, NULL), NULL);
	return arg;
}

// --- relay: each thread makes the next one and ends
static void *runner(void *arg)
{
	pthread_detach(pthread_self());
	__atomic_add_fetch(&born, 1, __ATOMIC_RELAXED);
	if (!over)
		thread(runner, NULL);
	return arg;
}

// --- signals: a timer and a thread that sends, both counted
static uint64_t alarms, got, queued;
static void alarmed(int sig) { (void)sig; __atomic_add_fetch(&alarms, 1, __ATOMIC_RELAXED); }
static void received(int sig, siginfo_t *info, void *uc)
{
	(void)sig; (void)uc;
	if (info->si_code != SI_QUEUE || info->si_value.sival_int != (int)(got & 0x7fffffff))
		bad("signal", info->si_value.sival_int, got);
	got++;
}
static void *sender(void *arg)
{
	pid_t tid = *(pid_t *)arg;
	while (!over) {
		siginfo_t info = {.si_signo = SIGRTMIN, .si_code = SI_QUEUE};
		info.si_pid = getpid();
		info.si_value.sival_int = queued & 0x7fffffff;
		if (syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SIGRTMIN, &info) == 0)
			queued++; // real-time signals are kept in order, each of them
		else if (errno != EAGAIN)
			bad("sigqueue", errno, queued);
		if (queued % 64 == 0)
			sched_yield();
	}
	return NULL;
}

// --- calls: one thread in each blocking call, woken now and then, no EINTR ever
static int pipes[4][2];
static uint64_t passed;
// Some calls end with EINTR when a tracer stops the thread and dies before it
// could mend that: signal(7).
static int lenient;
static void woken(const char *what, long r, long want)
{
	if (r != want && !(lenient && r == -1 && errno == EINTR))
		bad(what, r, errno);
	__atomic_add_fetch(&passed, 1, __ATOMIC_RELAXED);
}
static void *sleeps(void *arg)
{
	while (!over) {
		struct timespec a, b, d = {0, 30000000}, left = {0, 0};
		clock_gettime(CLOCK_MONOTONIC, &a);
		woken("nanosleep", nanosleep(&d, &left), 0);
		clock_gettime(CLOCK_MONOTONIC, &b);
		long us = (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
		if (us < 30000)
			bad("nanosleep ended early", us, 0);
	}
	return arg;
}
static void *reads(void *arg)
{
	char c;
	while (!over)
		woken("read", read(pipes[0][0], &c, 1), 1);
	return arg;
}
static void *polls(void *arg)
{
	char c;
	while (!over) {
		struct pollfd p = {.fd = pipes[1][0], .events = POLLIN};
		woken("poll", poll(&p, 1, 60000), 1);
		woken("read after poll", read(pipes[1][0], &c, 1), 1);
	}
	return arg;
}
static void *epolls(void *arg)
{
	char c;
	int e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	epoll_ctl(e, EPOLL_CTL_ADD, pipes[2][0], &ev);
	while (!over) {
		int n = epoll_wait(e, &ev, 1, -1);
		woken("epoll_wait", n, 1);
		if (n == 1)
			woken("read after epoll", read(pipes[2][0], &c, 1), 1);
	}
	return arg;
}
static uint32_t word;
static void *futexes(void *arg)
{
	while (!over) {
		uint32_t was = __atomic_load_n(&word, __ATOMIC_SEQ_CST);
		long r = syscall(SYS_futex, &word, FUTEX_WAIT, was, NULL, NULL, 0);
		if (r < 0 && errno != EAGAIN)
			bad("futex", r, errno);
		woken("futex", 0, 0);
	}
	return arg;
}
static void *timedfutexes(void *arg)
{
	static uint32_t mine;
	while (!over) {
		struct timespec d = {0, 20000000};
		long r = syscall(SYS_futex, &mine, FUTEX_WAIT, 0, &d, NULL, 0);
		if (r != -1 || errno != ETIMEDOUT)
			bad("timed futex", r, errno);
		woken("futex", 0, 0);
	}
	return arg;
}
static struct sockaddr_un address = {.sun_family = AF_UNIX}, full = {.sun_family = AF_UNIX};
static socklen_t address_size, full_size; // full: connections wait until one is taken
static socklen_t listens(int s, struct sockaddr_un *a, const char *name, int backlog)
{
	socklen_t n = offsetof(struct sockaddr_un, sun_path) + 1 + snprintf(a->sun_path + 1, 60, "tsugi-test-%s%d", name, getpid());
	if (bind(s, (void *)a, n) || listen(s, backlog))
		bad("listen", errno, 0);
	return n;
}
static void *accepts(void *arg)
{
	int s = *(int *)arg;
	while (!over) {
		int c = accept(s, NULL, NULL);
		if (c < 0)
			bad("accept", c, errno);
		close(c);
		woken("accept", 0, 0);
	}
	return arg;
}
static void *recvs(void *arg)
{
	char c;
	struct timeval t = {60, 0};
	int *pair = arg;
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	while (!over)
		woken("recv with a timeout", recv(pair[0], &c, 1, 0), 1);
	return arg;
}
static void *connects(void *arg)
{
	struct timeval t = {60, 0};
	while (!over) {
		int c = socket(AF_UNIX, SOCK_STREAM, 0);
		setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
		woken("connect with a timeout", connect(c, (void *)&full, full_size), 0);
		close(c);
	}
	return arg;
}
static void *sigwaits(void *arg)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	siginfo_t info;
	while (!over)
		woken("sigwaitinfo", sigwaitinfo(&set, &info), SIGUSR2);
	return arg;
}
static void calls(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < 4; i++)
		if (pipe(pipes[i]))
			bad("pipe", errno, 0);
	int s = socket(AF_UNIX, SOCK_STREAM, 0), slow = socket(AF_UNIX, SOCK_STREAM, 0), pair[2];
	address_size = listens(s, &address, "", 8);
	full_size = listens(slow, &full, "full-", 0);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		bad("socketpair", errno, 0);
	thread(sleeps, NULL), thread(reads, NULL), thread(polls, NULL), thread(epolls, NULL);
	thread(futexes, NULL), thread(timedfutexes, NULL), thread(accepts, &s), thread(recvs, pair);
	thread(connects, NULL);
	pthread_t w = thread(sigwaits, NULL);
	say("ready");
	while (!over) {
		usleep(7000);
		for (int i = 0; i < 3; i++)
			if (write(pipes[i][1], "x", 1) != 1)
				bad("write", errno, 0);
		__atomic_add_fetch(&word, 1, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0);
		int c = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(c, (void *)&address, address_size))
			bad("connect", errno, 0);
		close(c);
		close(accept4(slow, NULL, NULL, 0));
		if (send(pair[1], "x", 1, 0) != 1)
			bad("send", errno, 0);
		pthread_kill(w, SIGUSR2);
	}
	say("done %lu", passed);
	_exit(0);
}

static void wait_over(void)
{
	while (!over)
		usleep(2000);
}

// --- filter ACTION: the action of a seccomp filter for mmap
static void filter(const char *action, int call)
{
	uint32_t ret = SECCOMP_RET_ALLOW;
	if (!strcmp(action, "errno"))
		ret = SECCOMP_RET_ERRNO | EPERM;
	if (!strcmp(action, "kill"))
		ret = SECCOMP_RET_KILL_PROCESS;
	if (!strcmp(action, "trap"))
		ret = SECCOMP_RET_TRAP;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, ret),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		bad("no_new_privs", errno, 0);
	if (!strcmp(action, "strict") ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) : syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
		bad("seccomp", errno, 0);
}

// --- waits ACTION: three threads wait for a time, under a filter that has the
// action for what the kernel goes on with such calls by
static void *naps(void *arg)
{
	struct timespec d = {0, 200000000};
	uint64_t a = now_ns();
	if (nanosleep(&d, NULL) || now_ns() - a < 200000000)
		bad("nanosleep", errno, now_ns() - a);
	return arg;
}

static uint32_t rung;
static void *awaits(void *arg)
{
	struct timespec d = {60, 0};
	if (syscall(SYS_futex, &rung, FUTEX_WAIT, 0, &d, NULL, 0))
		bad("timed futex", errno, 0);
	return arg;
}

static void waits(const char *action)
{
	filter(action, SYS_restart_syscall);
	pthread_t a = thread(naps, NULL), b = thread(awaits, NULL);
	struct pollfd p = {.fd = 0, .events = POLLIN};
	say("ready");
	if (poll(&p, 1, 60000) != 1)
		bad("poll", errno, p.revents);
	rung = 1;
	syscall(SYS_futex, &rung, FUTEX_WAKE, 1);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	say("done 1");
}

// --- own stacks: the only thread is in a handler, on an alternate stack
static void on_alternate(int sig)
{
	char c;
	(void)sig;
	if (write(1, "ready\n", 6) != 6 || read(0, &c, 1) < 0)
		bad("on the alternate stack", errno, 0);
}

// --- nested: a handler runs on an alternate stack that is a part of the
// thread's own; what lies below it is the thread's
static void *nested(void *arg)
{
	enum { below = 16 << 10 };
	size_t size = sysconf(_SC_MINSIGSTKSZ) + 4096; // the loader may come into it
	volatile unsigned char both[below + 64 + size];
	for (size_t i = 0; i < below; i++)
		both[i] = 0x5a;
	stack_t ss = {.ss_sp = (void *)(both + below), .ss_size = size};
	struct sigaction sa = {.sa_handler = on_alternate, .sa_flags = SA_ONSTACK};
	if (sigaltstack(&ss, NULL) || sigaction(SIGUSR1, &sa, NULL))
		bad("sigaltstack", errno, 0);
	raise(SIGUSR1);
	for (size_t i = 0; i < below; i++)
		if (both[i] != 0x5a)
			bad("below the alternate stack", i, both[i]);
	return arg;
}

// --- guard: the only thread is close above a guard that no mapping shows, with
// memory of others below
static void *deep(void *start)
{
	volatile char *here = __builtin_frame_address(0);
	volatile char room[here - (char *)start - 8192];
	room[0] = 0;
	say("ready");
	for (;;)
		pause();
	return NULL;
}

static void guarded_stack(void)
{
	enum { others = 64 << 10, guard = 4096, stack = 64 << 10, install = 102 };
	char *m = mmap(NULL, others + guard + stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t a;
	pthread_t t;
	pthread_attr_init(&a);
	pthread_attr_setstack(&a, m + others + guard, stack);
	if (madvise(m + others, guard, install)) {
		say("ready"); // the kernel has none
		_exit(0);
	}
	pthread_create(&t, &a, deep, m + others + guard);
	syscall(SYS_exit, 0);
}

// --- vfork S: the main thread waits for its child, which is ended by SIGTERM, or
// after S seconds by itself
static void vforks(int seconds)
{
	pid_t p = vfork();
	if (p == 0) {
		struct timespec d = {seconds, 0};
		nanosleep(&d, NULL);
		_exit(3);
	}
	int status;
	if (waitpid(p, &status, 0) != p || !(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM))
		bad("vfork", status, errno);
}

// --- share: a process of the same memory that is its sibling
static int asleep(void *unused)
{
	(void)unused;
	for (;;)
		syscall(SYS_pause);
}

static int headless(void *stack) // the first thread ends, another lives
{
	if (clone(asleep, stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, NULL) < 0)
		_exit(9);
	syscall(SYS_exit, 0);
	return 0;
}

static void share(int ends)
{
	static char stack[2][16384] __attribute__((aligned(16)));
	say("shared %d", clone(ends ? headless : asleep, stack[1], CLONE_VM | CLONE_PARENT | SIGCHLD, stack[2]));
}

static void share_now(int signal)
{
	(void)signal;
	share(0);
}

static void forks(void)
{
	uint64_t n = 0;
	while (!over) {
		pid_t p = fork();
		if (p == 0)
			_exit(5);
		int status;
		if (p < 0 || waitpid(p, &status, 0) != p || WEXITSTATUS(status) != 5)
			bad("fork", status, errno);
		n++;
	}
	say("done %lu", n);
	_exit(0);
}

static void *execs(void *arg)
{
	char **argv = arg;
	usleep(1000);
	execv("/proc/self/exe", argv);
	bad("exec", errno, 0);
	return NULL;
}

// --- gap: the longest time that the process did not run, in microseconds
static void gaps(void)
{
	uint64_t last = now_ns(), longest = 0;
	while (!over) {
		uint64_t t = now_ns();
		if (t - last > longest)
			longest = t - last;
		last = t;
	}
	say("done %lu", longest / 1000);
	_exit(0);
}

// --- rseq: nearly all the time in a restartable sequence, which is begun anew
// when it is interrupted
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
static void restart_all_the_time(void)
{
	static struct rseq_cs cs;
	struct rseq *r = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	say("ready");
	while (__rseq_size)
		__asm__ volatile(
			"lea 1f(%%rip), %%rax\n mov %%rax, 8(%0)\n lea 2f(%%rip), %%rcx\n sub %%rax, %%rcx\n mov %%rcx, 16(%0)\n"
			"lea 4f(%%rip), %%rax\n mov %%rax, 24(%0)\n mov %0, 8(%1)\n"
			"1: mov $1000000, %%eax\n"
			"3: dec %%eax\n jnz 3b\n"
			"2: jmp 5f\n"
			".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
			"4: \n"
			"5: \n"
			:: "r"(&cs), "r"(r) : "rax", "rcx", "cc", "memory");
}
#else
static void restart_all_the_time(void) { say("ready"); }
#endif

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 0;
	if (!strcmp(what, "single")) { // one thread only, blocked in read
		char c;
		say("ready");
		if (read(0, &c, 1) < 0)
			bad("read", errno, 0);
		say("done 1");
		return 0;
	}
	if (!strcmp(what, "sleep")) { // one thread only, blocked in nanosleep, milliseconds
		struct timespec d = {n / 1000, n % 1000 * 1000000l};
		say("ready");
		uint64_t a = now_ns();
		if (nanosleep(&d, NULL))
			bad("nanosleep", errno, 0);
		uint64_t b = now_ns();
		if (b - a < (uint64_t)n * 1000000)
			bad("too short", (b - a) / 1000, 0);
		say("done %lu", (b - a) / 1000000);
		return 0;
	}
	if (!strcmp(what, "guard"))
		guarded_stack();
	if (!strcmp(what, "rseq")) {
		restart_all_the_time();
		return 0; // there are none
	}
	if (!strcmp(what, "filter")) {
		char c;
		say("ready"); // before the filter, which may be strict
		filter(argv[2], SYS_mmap);
		if (read(0, &c, 1) < 0 || write(1, "done 1\n", 7) != 7)
			return 1;
		syscall(SYS_exit, 0);
	}
	if (!strcmp(what, "waits")) {
		waits(argv[2]);
		return 0;
	}
	if (!strcmp(what, "alternate")) {
		stack_t ss = {.ss_sp = malloc(1 << 20), .ss_size = 1 << 20};
		struct sigaction sa = {.sa_handler = on_alternate, .sa_flags = SA_ONSTACK};
		sigaltstack(&ss, NULL);
		sigaction(SIGUSR1, &sa, NULL);
		raise(SIGUSR1);
		stack_t now;
		if (sigaltstack(NULL, &now) || now.ss_sp != ss.ss_sp || now.ss_size != ss.ss_size || now.ss_flags)
			bad("alternate stack", now.ss_flags, now.ss_size);
		say("done 1");
		return 0;
	}
	if (!strcmp(what, "execd")) { // after exec
		say("execd");
		char c;
		return read(0, &c, 1) < 0;
	}
	if (!strcmp(what, "dump")) { // ends by a fault, n MiB to be dumped
		struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
		volatile char *p = malloc((size_t)n << 20);
		for (size_t i = 0; i < (size_t)n << 20; i += 512)
			p[i] = 1;
		if (chdir(argv[3]) || setrlimit(RLIMIT_CORE, &all))
			bad("setrlimit", errno, 0);
		say("ready");
		abort();
	}
	if (!strcmp(what, "nested")) { // n: of the main thread
		if (n)
			nested(NULL);
		else
			pthread_join(thread(nested, NULL), NULL);
		say("done 1");
		return 0;
	}
	thread(reader, NULL);
	if (!strcmp(what, "calls")) {
		lenient = n;
		calls();
	}
	if (!strcmp(what, "idle")) {
		for (int i = 0; i < n; i++)
			thread(idle, NULL);
		usleep(20000);
	} else if (!strcmp(what, "compute")) {
		// An alternate stack that must survive.
		stack_t ss = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16}, now;
		sigaltstack(&ss, NULL);
		for (int i = 1; i < n; i++)
			thread(compute, NULL);
		say("ready");
		compute(NULL);
		if (sigaltstack(NULL, &now) || now.ss_sp != ss.ss_sp || now.ss_size != ss.ss_size || now.ss_flags)
			bad("alternate stack", now.ss_flags, now.ss_size);
		sigset_t set;
		sigprocmask(SIG_BLOCK, NULL, &set);
		for (int i = 1; i < 65; i++)
			if (sigismember(&set, i) == 1)
				bad("signal blocked", i, 0);
		say("done %lu", computed);
		return 0;
	} else if (!strcmp(what, "storm")) {
		for (int i = 0; i < n; i++)
			thread(breeder, NULL);
	} else if (!strcmp(what, "relay")) {
		for (int i = 0; i < n; i++)
			thread(runner, NULL);
	} else if (!strcmp(what, "forks")) {
		say("ready");
		forks();
	} else if (!strcmp(what, "vfork")) {
		say("ready");
		vforks(n);
		say("done 1");
		return 0;
	} else if (!strcmp(what, "share")) {
		signal(SIGUSR1, share_now); // a thread, at any time
		say("ready");
		if (n < 3)
			share(n - 1);
		wait_over();
		say("done 1");
		_exit(0);
	} else if (!strcmp(what, "zombie")) { // the main thread ends, others live
		for (int i = 0; i < n; i++)
			thread(idle, NULL);
		usleep(20000);
		alone = 1;
		say("ready");
		pthread_exit(NULL);
	} else if (!strcmp(what, "exec")) { // another thread than the main one starts the program
		static char *next[] = {"target", "execd", NULL};
		for (int i = 0; i < n; i++)
			thread(idle, NULL);
		usleep(20000);
		say("ready");
		wait_over();
		pthread_join(thread(execs, next), NULL);
	} else if (!strcmp(what, "signals")) {
		struct sigaction a = {.sa_handler = alarmed, .sa_flags = SA_RESTART};
		struct sigaction r = {.sa_sigaction = received, .sa_flags = SA_RESTART | SA_SIGINFO};
		sigaction(SIGALRM, &a, NULL);
		sigaction(SIGRTMIN, &r, NULL);
		pid_t self = getpid();
		struct itimerval t = {{0, 1000}, {0, 1000}};
		setitimer(ITIMER_REAL, &t, NULL);
		pthread_t p = thread(sender, &self);
		say("ready");
		compute(NULL);
		pthread_join(p, NULL);
		struct itimerval off = {{0, 0}, {0, 0}};
		setitimer(ITIMER_REAL, &off, NULL);
		if (got != queued)
			bad("signals lost or doubled", got, queued);
		if (alarms == 0)
			bad("no alarm", 0, 0);
		say("done %lu", got);
		return 0;
	} else if (!strcmp(what, "gap")) {
		for (int i = 1; i < n; i++)
			thread(idle, NULL);
		usleep(20000);
		say("ready");
		gaps();
	} else {
		bad("no such test", argc, 0);
	}
	say("ready");
	wait_over();
	say("done %lu", born);
	_exit(0);
}
