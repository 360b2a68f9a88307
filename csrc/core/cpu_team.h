// A team on the CPU: sixteen lanes in one thread's vector registers.
#pragma once

#include <memory>

#include "core/cpu.h"
#include "core/lanes.h"
#include "core/team.h"

namespace fastrl {

namespace cpu {

// What the teams of one thread work with, one after the other.
template <class Acc>
class TeamMemory {
 public:
  static constexpr int kLanes = 16, kHeld = 4, kSlots = 2;

  TeamMemory(int64_t row_size, int64_t places)
      : chunks((row_size + kLanes - 1) / kLanes),
        numbers_(new int64_t[static_cast<size_t>(places)]),
        rows_(new Acc[static_cast<size_t>((kHeld + kSlots * (kLanes + 1)) * padded() + kLineElements)]) {}

  int64_t padded() const { return chunks * kLanes; }
  int64_t* numbers() { return numbers_.get(); }
  Acc* held(int slot) { return aligned() + slot * padded(); }
  Acc* sums(int slot) { return aligned() + (kHeld + slot) * padded(); }
  Acc* tile(int slot) { return aligned() + (kHeld + kSlots + slot * kLanes) * padded(); }

  const int64_t chunks;
  int64_t list_id = -1;
  const int64_t* list_numbers = nullptr;
  int64_t list_size = 0;

 private:
  static constexpr int64_t kLineElements = 64 / sizeof(Acc);

  Acc* aligned() { return reinterpret_cast<Acc*>((reinterpret_cast<uintptr_t>(rows_.get()) + 63) & ~uintptr_t{63}); }

  std::unique_ptr<int64_t[]> numbers_;
  std::unique_ptr<Acc[]> rows_;
};

template <class Number, int kRegisterBytes>
class Team {
 public:
  using Acc = Number;
  using Vector = Lanes<Acc, kRegisterBytes>;
  using Memory = TeamMemory<Acc>;
  static constexpr int kLanes = Vector::kCount;
  static constexpr int kTiles = 16;                     // whose scores are held at once
  static constexpr int kTogether = kRegisterBytes / 8;  // chunks of a row that fit into the registers

  FASTRL_HD explicit Team(Memory& memory) : chunks(memory.chunks), memory_(memory) {}

  struct Tile {
    const int64_t* numbers;
    int count;
    int ahead;  // how many numbers of the next tile follow

    FASTRL_HD bool has(int) const { return true; }
    FASTRL_HD int end() const { return count; }
    FASTRL_HD bool any() const { return count > 0; }
    FASTRL_HD Vector keep(const Vector& x, Acc other) const { return x.first(count, other); }

    // data[number * stride] of every row of the tile
    FASTRL_HD Vector gather(const Acc* data, int64_t stride) const {
      alignas(64) Acc found[kLanes];
      for (int j = 0; j < kLanes; ++j) found[j] = data[numbers[j < count ? j : 0] * stride];
      return Vector::load(found);
    }
  };

  struct List {
    const int64_t* numbers;
    int64_t size;

    FASTRL_HD int64_t tiles() const { return (size + kLanes - 1) / kLanes; }
    FASTRL_HD Tile tile(int64_t t) const {
      const int64_t left = size - t * kLanes;
      const int64_t more = left - kLanes;
      return {numbers + t * kLanes,
              static_cast<int>(left < kLanes ? left : kLanes),
              static_cast<int>(more < 0        ? 0
                               : more < kLanes ? more
                                               : kLanes)};
    }
  };

  template <class Source>
  FASTRL_HD List list(const Source& source, int64_t id) const {
    if (memory_.list_id != id) {
      memory_.list_id = id;
      memory_.list_numbers = source.all_numbers();
      memory_.list_size = source.size;
      if (memory_.list_numbers == nullptr) {
        int64_t* numbers = memory_.numbers();
        int64_t size = 0;
        for (int64_t place = 0; place < source.size; ++place) {
          numbers[size] = source.number(place);
          size += source.present(place);
        }
        memory_.list_numbers = numbers;
        memory_.list_size = size;
      }
    }
    return {memory_.list_numbers, memory_.list_size};
  }

  struct Row {
    const Acc* data;
    FASTRL_HD Vector chunk(int64_t c) const { return Vector::load(data + c * kLanes); }
  };

  template <class T>
  FASTRL_HD Row hold(int slot, const Rows<const T>& rows, int64_t number) const {
    if constexpr (std::is_same_v<T, Acc>)
      if (lies_ready(rows)) return {rows.row(number)};
    copy(rows, rows.row(number), memory_.held(slot));
    return {memory_.held(slot)};
  }

  template <class T>
  FASTRL_HD void put(const Rows<T>& rows, int64_t number, int64_t c, const Vector& x) const {
    T* to = rows.row(number) + c * kLanes * rows.inner;
    if constexpr (std::is_same_v<T, Acc>)
      if (lies_ready(rows)) return x.store(to);
    alignas(64) Acc numbers[kLanes];
    x.store(numbers);
    const int64_t left = rows.size - c * kLanes;
    for (int64_t k = 0; k < (left < kLanes ? left : kLanes); ++k) to[k * rows.inner] = T(numbers[k]);
  }

  struct Taken {
    using Row = Team::Row;
    const Acc* rows[kLanes];
    FASTRL_HD Row row(int j) const { return {rows[j]}; }
  };

  template <class T>
  FASTRL_HD Taken take(int slot, const Rows<const T>& rows, const Tile& tile) const {
    Taken taken;
    if (rows.far)
      for (int j = 0; j < tile.ahead; ++j) prefetch_lines(rows.row(tile.numbers[kLanes + j]), rows.size);
    if constexpr (std::is_same_v<T, Acc>)
      if (lies_ready(rows)) {
        for (int j = 0; j < tile.count; ++j) taken.rows[j] = rows.row(tile.numbers[j]);
        return taken;
      }
    for (int j = 0; j < tile.count; ++j) {
      taken.rows[j] = memory_.tile(slot) + j * chunks * kLanes;
      copy(rows, rows.row(tile.numbers[j]), memory_.tile(slot) + j * chunks * kLanes);
    }
    return taken;
  }

  FASTRL_HD Vector dots(const Row& held, const Taken& rows, const Tile& tile) const {
    Vector partial[kLanes];
    for (int j = 0; j < kLanes; ++j) partial[j] = Vector::all(0);
    dot_chunks<kTogether>(held, rows, tile.count, 0, partial);
    return Vector::sum_each(partial);
  }

  class Sums {
   public:
    FASTRL_HD Sums(Acc* sums, int64_t chunks) : sums_(sums), chunks_(chunks) {
      for (int64_t c = 0; c < chunks; ++c) Vector::all(0).store(sums_ + c * kLanes);
    }

    FASTRL_HD void scale(Acc factor) {
      for (int64_t c = 0; c < chunks_; ++c) (Vector::load(sums_ + c * kLanes) * Vector::all(factor)).store(sums_ + c * kLanes);
    }

    // adds the tile's rows, each as often as its lane says
    FASTRL_HD void add(const Vector& weights, const Taken& rows, const Tile& tile) {
      alignas(64) Acc weight[kLanes];
      weights.store(weight);
      add_chunks<kTogether>(weight, rows, tile.count, 0);
    }

    template <class T>
    FASTRL_HD void store(const Rows<T>& rows, int64_t number, Acc factor) const {
      T* to = rows.row(number);
      for (int64_t k = 0; k < rows.size; ++k) to[k * rows.inner] = T(sums_[k] * factor);
    }

   private:
    // as many chunks at once as there are registers, then what is left over
    template <int kAtOnce>
    FASTRL_HD void add_chunks(const Acc* weight, const Taken& rows, int count, int64_t first) {
      for (; first + kAtOnce <= chunks_; first += kAtOnce) {
        Vector sum[kAtOnce];
        for (int i = 0; i < kAtOnce; ++i) sum[i] = Vector::load(sums_ + (first + i) * kLanes);
        for (int j = 0; j < count; ++j) {
          const Vector w = Vector::all(weight[j]);
          for (int i = 0; i < kAtOnce; ++i) sum[i] += w * rows.row(j).chunk(first + i);
        }
        for (int i = 0; i < kAtOnce; ++i) sum[i].store(sums_ + (first + i) * kLanes);
      }
      if constexpr (kAtOnce > 1) add_chunks<kAtOnce == 8 ? 6 : kAtOnce / 2>(weight, rows, count, first);
    }

    Acc* sums_;
    int64_t chunks_;
  };

  FASTRL_HD Sums sums(int slot, int64_t /*first*/) const { return {memory_.sums(slot), chunks}; }
  FASTRL_HD int64_t panel() const { return chunks; }
  template <class F>
  FASTRL_HD static void once(const F& f) {
    f();
  }

  const int64_t chunks;

 private:
  // Whether rows can be read where they lie.
  template <class T>
  FASTRL_HD static bool lies_ready(const Rows<T>& rows) {
    return rows.inner == 1 && rows.size % kLanes == 0;
  }

  // A row as the lanes want it, with zeros behind.
  template <class T>
  FASTRL_HD void copy(const Rows<const T>& rows, const T* row, Acc* to) const {
    if (rows.inner == 1)
      for (int64_t k = 0; k < rows.size; ++k) to[k] = Acc(row[k]);
    else
      for (int64_t k = 0; k < rows.size; ++k) to[k] = Acc(row[k * rows.inner]);
    for (int64_t k = rows.size; k < chunks * kLanes; ++k) to[k] = Acc(0);
  }

  // As many chunks at once as there are registers for, then what is left over.
  template <int kAtOnce>
  FASTRL_HD void dot_chunks(const Row& held, const Taken& rows, int count, int64_t first, Vector* partial) const {
    for (; first + kAtOnce <= chunks; first += kAtOnce) {
      Vector x[kAtOnce];
      for (int i = 0; i < kAtOnce; ++i) x[i] = held.chunk(first + i);
      for (int j = 0; j < count; ++j) {
        Vector sum = partial[j];
        for (int i = 0; i < kAtOnce; ++i) sum += x[i] * rows.row(j).chunk(first + i);
        partial[j] = sum;
      }
    }
    if constexpr (kAtOnce > 1) dot_chunks<kAtOnce == 8 ? 6 : kAtOnce / 2>(held, rows, count, first, partial);
  }

  Memory& memory_;
};

}  // namespace cpu

struct CpuTeams : Cpu {
  static constexpr bool kInOrder = true;  // a team meets one unit after the other: neighbours that read the same rows find them in cache

  // `operations` of all units together decide how many threads there are.
  template <class Body>
  static void for_each_team(const Body& body, int64_t units, double operations, int32_t /*device*/) {
    const auto threads = static_cast<int64_t>(std::min(operations / kOperationsPerThread, 1e9));
    share(units, threads, [&](int64_t first, int64_t last) {
      cpu::TeamMemory<typename Body::Acc> memory(body.row_size(), body.most_places());
      cpu::with_best_registers([&](auto bytes) FASTRL_INLINE {
        const cpu::Team<typename Body::Acc, decltype(bytes)::value> team(memory);
        for (int64_t unit = first; unit < last; ++unit) body(team, unit);
      });
    });
  }

 private:
  static constexpr double kOperationsPerThread = 4e6;
};

}  // namespace fastrl
