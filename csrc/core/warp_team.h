// A team on a GPU: the 32 lanes of a warp. Written in terms of `Across<T>`, a number of type T in every lane, so that tests can run it
// without a GPU: on the device a thread holds its own number alone.
//
//   Across<T>::make(f)      f(lane) in every lane        x.at(lane)   this lane's number
//   x.from(j)               lane j's number, known to all             x.swapped(d)  the number of the lane whose number differs by bit d
//   Across<bool>::votes(x)  a bit for every lane
#pragma once

#include "core/team.h"

namespace fastrl {

// `kPanel` chunks of a row to add to are held in registers.
template <class Number, int kPanel, template <class> class Across>
class WarpTeam {
 public:
  using Acc = Number;
  static constexpr int kLanes = 32;
  static constexpr int kTiles = 4;     // whose scores are held at once
  static constexpr int kTogether = 8;  // rows that are being read at the same time

  struct Vector {
    Across<Acc> lanes;

    template <class F>
    FASTRL_HD static Vector make(const F& f) {
      return {Across<Acc>::make(f)};
    }
    FASTRL_HD static Vector all(Acc x) {
      return make([&](int) { return x; });
    }
    FASTRL_HD Acc at(int lane) const { return lanes.at(lane); }

    FASTRL_HD Vector& operator+=(const Vector& other) {
      lanes = make([&](int lane) { return at(lane) + other.at(lane); }).lanes;
      return *this;
    }
    FASTRL_HD Vector operator*(const Vector& other) const {
      return make([&](int lane) { return at(lane) * other.at(lane); });
    }
    FASTRL_HD Vector operator-(const Vector& other) const {
      return make([&](int lane) { return at(lane) - other.at(lane); });
    }
    FASTRL_HD Vector larger(const Vector& other) const {
      return make([&](int lane) { return other.at(lane) > at(lane) ? other.at(lane) : at(lane); });
    }
    template <class F>
    FASTRL_HD Vector map(const F& f) const {
      return make([&](int lane) { return f(at(lane)); });
    }
    FASTRL_HD Vector exp() const { return map(FastExp{}); }
    // the first `count` lanes, `other` behind them
    FASTRL_HD Vector first(int count, Acc other) const {
      return make([&](int lane) { return lane < count ? at(lane) : other; });
    }

    FASTRL_HD Acc sum() const {
      Vector x = *this;
      FASTRL_UNROLL
      for (int distance = kLanes / 2; distance > 0; distance /= 2) x += Vector{x.lanes.swapped(distance)};
      return x.lanes.from(0);
    }
    FASTRL_HD Acc largest() const {
      Vector x = *this;
      FASTRL_UNROLL
      for (int distance = kLanes / 2; distance > 0; distance /= 2) x = x.larger(Vector{x.lanes.swapped(distance)});
      return x.lanes.from(0);
    }

    // Lane j becomes the sum of all lanes of vectors[j]: 31 exchanges for 32 sums. Overwrites its argument.
    FASTRL_HD static Vector sum_each(Vector (&vectors)[kLanes]) {
      fold<kLanes / 2>(vectors);
      return vectors[0];
    }

   private:
    // Every lane keeps one of two vectors, by the bit of its number, and gives the other one away.
    template <int kDistance>
    FASTRL_HD static void fold(Vector (&vectors)[kLanes]) {
      if constexpr (kDistance > 0) {
        FASTRL_UNROLL
        for (int j = 0; j < kDistance; ++j) {
          const Vector &low = vectors[j], &high = vectors[j + kDistance];
          const Vector given = make([&](int lane) { return lane & kDistance ? low.at(lane) : high.at(lane); });
          Vector kept = make([&](int lane) { return lane & kDistance ? high.at(lane) : low.at(lane); });
          kept += Vector{given.lanes.swapped(kDistance)};
          vectors[j] = kept;
        }
        fold<kDistance / 2>(vectors);
      }
    }
  };

  struct Tile {
    Across<int64_t> numbers;
    uint32_t present;  // a bit for every row

    FASTRL_HD bool has(int j) const { return (present >> j & 1) != 0; }
    FASTRL_HD int end() const { return kLanes; }
    FASTRL_HD bool any() const { return present != 0; }
    FASTRL_HD Vector keep(const Vector& x, Acc other) const {
      return Vector::make([&](int lane) { return has(lane) ? x.at(lane) : other; });
    }
    FASTRL_HD Vector gather(const Acc* data, int64_t stride) const {
      return Vector::make([&](int lane) { return has(lane) ? data[numbers.at(lane) * stride] : Acc(0); });
    }
  };

  template <class Source>
  struct List {
    const Source& source;

    FASTRL_HD int64_t tiles() const { return (source.size + kLanes - 1) / kLanes; }
    FASTRL_HD Tile tile(int64_t t) const {
      const auto place = [t](int lane) { return t * kLanes + lane; };
      const auto present = Across<bool>::make([&](int lane) { return place(lane) < source.size && source.present(place(lane)); });
      return {Across<int64_t>::make([&](int lane) { return present.at(lane) ? source.number(place(lane)) : 0; }),
              Across<bool>::votes(present)};
    }
  };

  template <class Source>
  FASTRL_HD List<Source> list(const Source& source, int64_t /*id*/) const {
    return {source};
  }

  // A row where it lies; nullptr: none, all zeros.
  template <class T>
  struct Row {
    const T* data;
    int64_t inner, size;

    FASTRL_HD Vector chunk(int64_t c) const {
      return Vector::make([&](int lane) {
        const int64_t k = c * kLanes + lane;
        return data != nullptr && k < size ? Acc(data[k * inner]) : Acc(0);
      });
    }
  };

  template <class T>
  FASTRL_HD Row<T> hold(int /*slot*/, const Rows<const T>& rows, int64_t number) const {
    return {rows.row(number), rows.inner, rows.size};
  }

  template <class T>
  FASTRL_HD void put(const Rows<T>& rows, int64_t number, int64_t c, const Vector& x) const {
    T* to = rows.row(number);
    (void)Across<bool>::make([&](int lane) {
      const int64_t k = c * kLanes + lane;
      if (k < rows.size) to[k * rows.inner] = T(x.at(lane));
      return true;
    });
  }

  template <class T>
  struct Taken {
    using Row = WarpTeam::Row<T>;
    const Rows<const T> rows;
    const Tile tile;

    FASTRL_HD Row row(int j) const {
      const int64_t number = tile.numbers.from(j);  // all lanes take part, whatever follows
      return {tile.has(j) ? rows.row(number) : nullptr, rows.inner, rows.size};
    }
  };

  template <class T>
  FASTRL_HD Taken<T> take(int /*slot*/, const Rows<const T>& rows, const Tile& tile) const {
    return {rows, tile};
  }

  template <class Held, class TakenRows>
  FASTRL_HD Vector dots(const Held& held, const TakenRows& rows, const Tile& /*tile*/) const {
    Vector partial[kLanes];
    FASTRL_UNROLL
    for (int first = 0; first < kLanes; first += kTogether) {
      typename TakenRows::Row row[kTogether];
      FASTRL_UNROLL
      for (int i = 0; i < kTogether; ++i) {
        partial[first + i] = Vector::all(0);
        row[i] = rows.row(first + i);
      }
      for (int64_t c = 0; c < chunks; ++c) {
        const Vector x = held.chunk(c);
        FASTRL_UNROLL
        for (int i = 0; i < kTogether; ++i) partial[first + i] += x * row[i].chunk(c);
      }
    }
    return Vector::sum_each(partial);
  }

  class Sums {
   public:
    FASTRL_HD explicit Sums(int64_t first) : first_(first) {
      FASTRL_UNROLL
      for (int i = 0; i < kPanel; ++i) sums_[i] = Vector::all(0);
    }

    FASTRL_HD void scale(Acc factor) {
      FASTRL_UNROLL
      for (int i = 0; i < kPanel; ++i) sums_[i] = sums_[i] * Vector::all(factor);
    }

    template <class TakenRows>
    FASTRL_HD void add(const Vector& weights, const TakenRows& rows, const Tile& tile) {
      for (int j = 0; j < kLanes; ++j) {
        const auto row = rows.row(j);
        const Vector weight = Vector::all(weights.lanes.from(j));
        if (!tile.has(j)) continue;
        FASTRL_UNROLL
        for (int i = 0; i < kPanel; ++i) sums_[i] += weight * row.chunk(first_ + i);
      }
    }

    template <class T>
    FASTRL_HD void store(const Rows<T>& rows, int64_t number, Acc factor) const {
      T* to = rows.row(number);
      FASTRL_UNROLL
      for (int i = 0; i < kPanel; ++i) {
        (void)Vector::make([&](int lane) {
          const int64_t k = (first_ + i) * kLanes + lane;
          if (k < rows.size) to[k * rows.inner] = T(sums_[i].at(lane) * factor);
          return Acc(0);
        });
      }
    }

   private:
    Vector sums_[kPanel];
    int64_t first_;
  };

  FASTRL_HD explicit WarpTeam(int64_t row_size) : chunks((row_size + kLanes - 1) / kLanes) {}
  FASTRL_HD Sums sums(int /*slot*/, int64_t first) const { return Sums(first); }
  FASTRL_HD static int64_t panel() { return kPanel; }
  // f() once, by one lane
  template <class F>
  FASTRL_HD static void once(const F& f) {
    (void)Across<bool>::make([&](int lane) {
      if (lane == 0) f();
      return true;
    });
  }

  const int64_t chunks;
};

}  // namespace fastrl
