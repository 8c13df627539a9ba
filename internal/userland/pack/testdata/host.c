// SPDX-License-Identifier: Apache-2.0
//
// The program of pack's tests: it runs the code under test, and does to its own
// memory what lines of standard input tell it, as an engine would from outside.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __cplusplus
extern "C"
#endif
int work(char *out, size_t size, int n);
#ifdef __cplusplus
extern "C"
#endif
void __register_frame(void *);

static int found(struct dl_phdr_info *info, size_t size, void *want)
{
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		unsigned long start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		if (info->dlpi_phdr[i].p_type == PT_LOAD && *(unsigned long *)want - start < info->dlpi_phdr[i].p_memsz) {
			*(unsigned long *)want = info->dlpi_addr;
			return 1;
		}
	}
	return 0;
}

static void *thread(void *unused)
{
	char out[4096] = "";
	(void)unused;
	for (int n = 0; n < 4; n++)
		work(out + strlen(out), sizeof(out) - strlen(out), n);
	printf("out %s\n", out);
	return NULL;
}

int main(void)
{
	unsigned long a, b, bias = (unsigned long)work;
	char line[256], text[64];

	setvbuf(stdout, NULL, _IOLBF, 0);
	dl_iterate_phdr(found, &bias);
	printf("bias %lx\n", bias);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "map %lx %lx", &a, &b) == 2) {
			void *p = mmap((void *)a, b, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
			printf("mapped %d\n", p == (void *)a);
		} else if (sscanf(line, "read %lx", &a) == 1) {
			printf("value %lx\n", *(unsigned long *)a);
		} else if (sscanf(line, "symbol %63s", text) == 1) {
			printf("value %lx\n", (unsigned long)dlsym(RTLD_DEFAULT, text));
		} else if (sscanf(line, "write %lx %lx", &a, &b) == 2) {
			printf("wrote %d\n", fread((void *)a, 1, b, stdin) == b);
		} else if (sscanf(line, "protect %lx %lx %63s", &a, &b, text) == 3) {
			int prot = PROT_READ | (strchr(text, 'w') ? PROT_WRITE : 0) | (strchr(text, 'x') ? PROT_EXEC : 0);
			printf("protected %d\n", !mprotect((void *)a, b, prot));
		} else if (sscanf(line, "register %lx", &a) == 1) {
			__register_frame((void *)a);
			printf("registered 1\n");
		} else if (!strncmp(line, "run", 3)) {
			pthread_t t;
			pthread_create(&t, NULL, thread, NULL);
			pthread_join(t, NULL);
		}
	}
	return 0;
}
