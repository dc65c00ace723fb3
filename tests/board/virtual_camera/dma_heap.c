/* Preloaded: /dev/dma_heap on a kernel without DMA heaps. A heap is an anonymous file, so is a buffer;
   libcamera and picamera2 map them as they would map DMA memory. For the virtual camera in tests. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAPS "/dev/dma_heap/"
#define BUFFER "limen-dma-buffer"

static int opened_heap(const char *path)
{
	const char *name = path + strlen(HEAPS);
	/* The first is libcamera's, the second picamera2's. */
	if (strcmp(name, "system") != 0 && strcmp(name, "vidbuf_cached") != 0) {
		errno = ENOENT;
		return -1;
	}
	return memfd_create("limen-dma-heap", MFD_CLOEXEC);
}

static mode_t mode_of(int flags, va_list rest)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                                       \
	int name(const char *path, int flags, ...)                       \
	{                                                                \
		static int (*real)(const char *, int, ...);              \
		va_list rest;                                            \
		va_start(rest, flags);                                   \
		mode_t mode = mode_of(flags, rest);                      \
		va_end(rest);                                            \
		if (path && strncmp(path, HEAPS, strlen(HEAPS)) == 0)    \
			return opened_heap(path);                        \
		if (!real)                                               \
			real = dlsym(RTLD_NEXT, #name);                  \
		return real(path, flags, mode);                          \
	}

#define OPENAT(name)                                                     \
	int name(int folder, const char *path, int flags, ...)           \
	{                                                                \
		static int (*real)(int, const char *, int, ...);         \
		va_list rest;                                            \
		va_start(rest, flags);                                   \
		mode_t mode = mode_of(flags, rest);                      \
		va_end(rest);                                            \
		if (path && strncmp(path, HEAPS, strlen(HEAPS)) == 0)    \
			return opened_heap(path);                        \
		if (!real)                                               \
			real = dlsym(RTLD_NEXT, #name);                  \
		return real(folder, path, flags, mode);                  \
	}

#undef open
#undef open64
#undef openat
#undef openat64
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

static int is_buffer(int descriptor)
{
	char link[64], target[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
	ssize_t length = readlink(link, target, sizeof target - 1);
	if (length < 0)
		return 0;
	target[length] = 0;
	return strstr(target, BUFFER) != NULL;
}

int ioctl(int descriptor, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, ...);
	va_list rest;
	va_start(rest, request);
	void *argument = va_arg(rest, void *);
	va_end(rest);
	if (request == DMA_HEAP_IOCTL_ALLOC) {
		struct dma_heap_allocation_data *wanted = argument;
		int made = memfd_create(BUFFER, MFD_CLOEXEC);
		if (made < 0 || ftruncate(made, (off_t)wanted->len) != 0)
			return -1;
		wanted->fd = (unsigned)made;
		return 0;
	}
	/* Names and cache flushes of a buffer: nothing to do for plain memory. */
	if (_IOC_TYPE(request) == DMA_BUF_BASE && is_buffer(descriptor))
		return 0;
	if (!real)
		real = dlsym(RTLD_NEXT, "ioctl");
	return real(descriptor, request, argument);
}
