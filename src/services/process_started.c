/* Of the program and its fifty libraries, a start reads tables that hardly anything reads
 * afterwards: symbols to be bound, relocations. They were a fifth of what an empty server had
 * resident. The pages are those of files: the kernel caches them as long as it has room, and maps
 * one again when somebody reads it. */
#include "src/services/admin.h"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

/* The linker has written into pages that are mapped for reading: what they hold is in no file. */
static bool is_patched(const struct dl_phdr_info *object)
{
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];

        if (part->p_type != PT_DYNAMIC)
            continue;
        for (const ElfW(Dyn) *d = (const void *)(object->dlpi_addr + part->p_vaddr);
             d->d_tag != DT_NULL; d++) {
            if (d->d_tag == DT_TEXTREL || (d->d_tag == DT_FLAGS && (d->d_un.d_val & DF_TEXTREL)))
                return true;
        }
    }
    return false;
}

static int let_tables_go(struct dl_phdr_info *object, size_t size, void *arg)
{
    uintptr_t page = *(const uintptr_t *)arg;

    (void)size;
    if (is_patched(object))
        return 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t from = object->dlpi_addr + part->p_vaddr, to = from + part->p_filesz;

        from = (from + page - 1) / page * page;
        to = to / page * page;
        if (part->p_type == PT_LOAD && part->p_flags == PF_R && from < to)
            madvise((void *)from, to - from, MADV_DONTNEED);
    }
    return 0;
}

void process_started(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    dl_iterate_phdr(let_tables_go, &page);
}
